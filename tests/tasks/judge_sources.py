"""Judges for tests: who is asked and how, in one line."""

from pathlib import Path

from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from tasks.judges.load import JudgeSource

TEMPLATES = Path(__file__).resolve().parents[2] / "data" / "judges"


def judge_of(world, cache, *, base=None, mode=None, **settings):
    """Return a judge that is the tiny base of `world` unless the settings say otherwise; answers are kept in `cache`."""
    return JudgeSource(
        settings=JudgeSettings(**settings),
        base=base or world.base,
        base_digest="b",
        tokenizer=world.tokenizer,
        model=ModelSettings(context=world.context),
        templates=TEMPLATES,
        cache=cache,
        context=world.context,
        mode=mode,
    )


def server_of(folder, url, **settings):
    """Return a judge behind a server, which needs no base; its answers are kept in `folder`."""
    return JudgeSource(
        settings=JudgeSettings(**{"backend": "openai", "model": "m", "base_url": url} | settings),
        base=folder,
        base_digest="",
        tokenizer=folder,
        model=ModelSettings(),
        templates=TEMPLATES,
        cache=folder,
        context=512,
    )
