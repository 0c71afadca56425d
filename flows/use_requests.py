"""What the words behind ask, chat and export ask for; whatever is wrong with them is told before any library is loaded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from posttrain.errors import RequestError, did_you_mean
from tasks.exporting.forms import FORMATS, GGUF, HF, TYPES
from tasks.workspace.paths import Paths

LIMIT = "evaluate.max_new_tokens"
COMMAND = "make export VERSION=3 FORMAT=gguf TO=exported"


@dataclass(frozen=True)
class AskRequest:
    """What is asked.

    Attributes:
        names: of the models; none: those that `default_names` gives.
        temperature: 0 decodes greedily.
        is_limit_given: the settings say how long an answer may be.
        prompt: one prompt, "-" for standard input; "" where there is a file.
        file: of prompts.
        form: its format; "" for the one that reads it.
        columns: which column is which field.
    """

    names: Sequence[str]
    temperature: float
    is_limit_given: bool
    prompt: str = ""
    file: str = ""
    form: str = ""
    columns: str = ""


def ask_request(given: Mapping[str, str], settings: Sequence[str], *, verb: str = "ask") -> AskRequest:
    """Return what the words of a verb ask for.

    Raises:
        RequestError: there is no prompt, or two; or a word is out of range.
    """
    names = [*given.get("models", given.get("model", "")).replace(",", " ").split(), *given.get("version", "").split()]
    request = AskRequest(
        names=list(dict.fromkeys(names)),
        temperature=temperature_of(given.get("temperature", "")),
        is_limit_given=any(word.partition("=")[0].strip() == LIMIT for word in settings),
        prompt=given.get("prompt", ""),
        file=given.get("file", ""),
        form=given.get("format", ""),
        columns=given.get("map", ""),
    )
    if verb == "chat":
        if len(names) > 1:
            raise RequestError(f"chat is with one model, got MODEL={' '.join(names)}. Side by side: make ask MODELS=…")
        return request
    if bool(request.prompt.strip()) == bool(request.file):
        raise RequestError(
            'ask needs PROMPT or FILE, one of them: make ask PROMPT="Tom has 12 apples, finds 5. How many?"; '
            "PROMPT=- reads standard input"
        )
    if (request.form or request.columns) and not request.file:
        raise RequestError("FORMAT and MAP say how FILE is read, and there is no FILE")
    return request


def temperature_of(text: str) -> float:
    """Return the number that TEMPERATURE says, 0 where it says nothing.

    Raises:
        RequestError: it is none, or below 0.
    """
    try:
        value = float(text or 0)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise RequestError(f"TEMPERATURE must be a number of at least 0 (0: the likeliest token each time), got {text}")
    return value


@dataclass(frozen=True)
class ExportRequest:
    """What is exported, and where to.

    Attributes:
        version: number or alias.
        form: hf or gguf.
        precision: of a GGUF file.
        target: the folder.
        is_forced: an export that lies there may be replaced.
    """

    version: str
    form: str
    precision: str
    target: Path
    is_forced: bool


def export_request(paths: Paths, given: Mapping[str, str]) -> ExportRequest:
    """Return what the words of the verb ask for.

    Raises:
        RequestError: one is missing or none that there is.
    """
    for name in ("version", "to"):
        if not given.get(name, "").strip():
            raise RequestError(f"export needs {name.upper()}: {COMMAND}")
    form, precision = given.get("format") or HF, given.get("type") or ""
    if form not in FORMATS:
        raise RequestError(f"FORMAT must be {' or '.join(FORMATS)}, got {form}{did_you_mean(form, FORMATS)}")
    if precision and form != GGUF:
        raise RequestError("TYPE is of FORMAT=gguf; a Hugging Face directory keeps the weights as they were registered")
    if precision and precision not in TYPES:
        raise RequestError(f"TYPE must be {', '.join(TYPES)}, got {precision}{did_you_mean(precision, TYPES)}")
    if given.get("force", "") not in ("", "0", "1"):
        raise RequestError(f"FORCE must be 1 (replace the export that lies there) or 0, got {given['force']}")
    target = paths.root / Path(given["to"]).expanduser()
    for folder in (paths.store, paths.ledger, paths.data, paths.reports):
        if target.resolve().is_relative_to(folder.resolve()):
            raise RequestError(f"TO must lie outside {folder}, which is not for exports, got {given['to']}")
    return ExportRequest(given["version"].strip(), form, precision or "f16", target, given.get("force") == "1")
