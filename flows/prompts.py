"""How plain-text prompts are read in a run: through the base's chat template, or as they are."""

import json
from functools import cache

from flows.bases import locate_base
from flows.run import Run
from posttrain.errors import RequestError
from posttrain.settings.model import ModelSettings
from tasks.base_model.identity import TINY
from tasks.workspace.paths import Paths

CHAT = "chat"
"""Metric of the stage `tokenizer`, and value of the tag."""
KEY = "posttrain_prompts"
"""Of `tokenizer_config.json`, as `models.prompt_format` writes it, which takes seconds to import."""
PROMPTS_TAG = "posttrain.prompts"
"""Of a pipeline's run: `chat` or `plain`."""


def is_chat(run: Run) -> bool:
    """Return whether plain-text prompts go through the chat template; false before the stage `tokenizer` has run."""
    return run.has_run("tokenizer") and run.artifact("tokenizer").metrics.get(CHAT, 0.0) == 1.0


def prompts_tag(run: Run) -> dict[str, str]:
    """Return the tag of the pipeline's run in MLflow."""
    return {PROMPTS_TAG: CHAT if is_chat(run) else "plain"}


def system_of(run: Run) -> str | None:
    """Return the system message before a plain-text prompt, that of a base that was trained here with one included."""
    told = json.loads((run.artifact("tokenizer").path / "tokenizer" / "tokenizer_config.json").read_text(encoding="utf-8"))
    system: str | None = told.get(KEY, {}).get("system")
    return system


def prompts_line(run: Run) -> str:
    """Return how plain-text prompts are read; "" for the tiny base, which knows one way."""
    model = run.config.model
    if model.base == TINY:
        return ""
    if is_chat(run):
        system = system_of(run)
        return "prompts: chat template of the base" + ("" if system is None else f", with the system message {system!r}")
    return "prompts: plain text" + (" (model.prompt_format=plain)" if model.prompt_format == "plain" else "")


def check_prompts(paths: Paths, model: ModelSettings) -> None:
    """Refuse before anything runs a chat template, or a system message for one, where the base has no template of its own.

    Raises:
        RequestError: it is asked for.
    """
    if model.prompt_format != CHAT and model.system is None:
        return
    if model.base == TINY:
        asked = "model.prompt_format=chat" if model.prompt_format == CHAT else "model.system"
        raise RequestError(f"{asked}: the tiny base has no chat template of its own. Name a base that has one (model.base)")
    locate_base(paths, model)
    _check(model.source, model.revision, model.base, model.prompt_format, model.system)


@cache
def _check(source: str, revision: str | None, base: str, prompt_format: str, system: str | None) -> None:
    """Ask the tokenizer, once a process: `make advise` and `make compare` check the settings of every method."""
    from models.load import check_template, load_tokenizer
    from models.prompt_format import decide_format

    tokenizer = load_tokenizer(source, revision=revision)
    decide_format(tokenizer, prompt_format=prompt_format, system=system, name=f"model.base={base}")
    check_template(tokenizer)
