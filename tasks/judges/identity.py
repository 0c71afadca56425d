"""Which judge is meant, told without loading it: its template from a file, its identity from its weights or its server."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from posttrain.errors import RequestError, did_you_mean
from posttrain.judges.templates import PAGE, Mode, Template, template_of
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from tasks.base_model import identity as bases
from tasks.workspace.keys import source_digest

BASE = "base"
"""The judge that is the pipeline's own base."""


def read_template(settings: JudgeSettings, *, folder: Path, mode: Mode | None = None, needed_by: str = "") -> Template:
    """Return the template that `judge.template` names, in the mode asked for (default: `judge.mode`).

    Args:
        settings: of the judge.
        folder: where templates with a name lie: `data/judges`.
        mode: d-RLAIF's is pointwise, and that of `evaluate.judge` pairwise, whatever `judge.mode` says.
        needed_by: the setting that asks for this mode, for messages.

    Raises:
        RequestError: there is no such template, or it is none.
    """
    name = settings.template
    is_file = name.endswith((".yaml", ".yml")) or "/" in name
    path = Path(name) if is_file else folder / f"{name}.yaml"
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        remedy = (
            f"Give the path of a file of the form in {PAGE}" if is_file else f"There are {', '.join(known) or 'none'}; {PAGE}"
        )
        guess = "" if is_file else did_you_mean(name, known)
        raise RequestError(f"judge.template={name}: there is no such template{guess or '.'} {remedy}") from None
    except yaml.YAMLError as error:
        raise RequestError(f"judge.template={name}: the file is no YAML: {' '.join(str(error).split())}. Correct it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"judge.template={name}: the file cannot be read: {' '.join(str(error).split())}") from None
    file = f"judge.template={name}"
    return template_of(told, name=mode or settings.mode, file=file, reasoning=settings.reasoning, needed_by=needed_by)


@dataclass(frozen=True)
class Backend:
    """Where a judge's model runs.

    Attributes:
        module: its code, which has `open_judge(source, identity, cache)`; it is imported when the judge is asked.
        identity: returns what identifies the judge's weights or server, given the settings and the base's digest.
        is_here: the model is loaded here, so that device, dtype and context decide what it says; else nothing of ours does.
    """

    module: str
    identity: Callable[[JudgeSettings, str], str]
    is_here: bool


def judge_identity(settings: JudgeSettings, *, base_digest: str) -> str:
    """Return what identifies the judge's weights or server, without its template; for its name and for cached answers.

    Args:
        settings: of the judge.
        base_digest: of the pipeline's base, for a judge that is the base.

    Raises:
        RequestError: `judge.model` is neither a directory nor a model at the hub, or the backend cannot have `base`.
    """
    return BACKENDS[settings.backend].identity(settings, base_digest)


def judge_digest(settings: JudgeSettings, *, base_digest: str) -> str:
    """Return a digest of the judge's identity and of its backend's code, for stage keys: the stages import no backend.

    Raises:
        RequestError: as `judge_identity`.
    """
    told = [judge_identity(settings, base_digest=base_digest), source_digest(BACKENDS[settings.backend].module)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _server_identity(settings: JudgeSettings, base_digest: str) -> str:
    if settings.model == BASE:
        raise RequestError(
            "judge.model=base is a model here, and judge.backend=openai asks a server: set judge.model to the name that the "
            "server knows, or judge.backend=local"
        )
    return hashlib.sha256(json.dumps([settings.base_url, settings.model]).encode()).hexdigest()


def _weights_identity(settings: JudgeSettings, base_digest: str) -> str:
    if settings.base_url:
        raise RequestError(
            f"judge.base_url={settings.base_url} is a server's, and judge.backend=local loads a model here: set "
            "judge.backend=openai, or leave judge.base_url empty"
        )
    return (
        base_digest if settings.model == BASE else bases.base_digest(ModelSettings(base=settings.source), setting="judge.model")
    )


BACKENDS: Mapping[str, Backend] = {
    "local": Backend("tasks.judges.local", _weights_identity, is_here=True),
    "openai": Backend("tasks.judges.remote", _server_identity, is_here=False),
}
"""By `judge.backend`."""


def digest_of_base(artifact: Path) -> str:
    """Return what identifies the weights that a base artifact holds, or those that it names."""
    if (artifact / "model").is_dir():
        return bases.base_digest(ModelSettings(base=str(artifact / "model")))
    return str(json.loads((artifact / "source.json").read_text(encoding="utf-8"))["digest"])
