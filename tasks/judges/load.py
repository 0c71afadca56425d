"""A judge as an argument of stages: who is asked and how, keyed without loading it, and loaded by `judge.backend`."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

from posttrain.judges.templates import Mode, Template
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from tasks.base_model.identity import device_type
from tasks.judges.cache import ReplyCache
from tasks.judges.identity import BACKENDS, BASE, digest_of_base, judge_digest, judge_identity, read_template
from tasks.judges.interface import Judge

DECIDING = (
    *("backend", "model", "mode", "reasoning", "samples", "max_tokens", "budget", "max_questions"),
    *("max_flips", "min_conviction", "max_unreadable"),
)
"""Settings of the judge that decide what it says, or whether that counts; patience, prices and speed do not."""


@dataclass(frozen=True)
class JudgeSource:
    """A judge: a model here or a server, and all that it takes to ask it.

    Attributes:
        settings: of the judge.
        base: artifact of the pipeline's base, or of the judge that practised, for `judge.model=base`.
        base_digest: of that artifact.
        tokenizer: of the base.
        model: how the base is loaded.
        templates: folder of the templates that have a name.
        cache: folder of the judge's answers, which outlive every stage.
        context: tokens that a judge reads, at most.
        mode: in which it is asked; None: as `judge.mode` says.
    """

    settings: JudgeSettings
    base: Path
    base_digest: str
    tokenizer: Path
    model: ModelSettings
    templates: Path
    cache: Path
    context: int
    mode: Mode | None = None

    @property
    def is_base(self) -> bool:
        """Whether it is the pipeline's own base."""
        return self.settings.model == BASE

    @cached_property
    def digest(self) -> str:
        """Digest of all that decides what it says, for stage keys: its weights or server, its backend's code, its prompt."""
        model = {name: getattr(self.model, name) for name in type(self.model).deciding()}
        loaded = {**model, "context": self.context, "device": device_type()}
        told = [
            judge_digest(self.settings, base_digest=self.base_digest),
            self.template().digest,
            {name: getattr(self.settings, name) for name in DECIDING},
            loaded if BACKENDS[self.settings.backend].is_here else {},
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @cached_property
    def identity(self) -> str:
        """What identifies its weights or server in the cache and in its name, whatever code asks it."""
        return judge_identity(self.settings, base_digest=digest_of_base(self.base) if self.is_base else "")

    def template(self, *, needed_by: str = "") -> Template:
        """Return its prompt in its mode.

        Args:
            needed_by: the setting that asks for this mode, for messages.

        Raises:
            RequestError: there is no such template, or it is none.
        """
        return read_template(self.settings, folder=self.templates, mode=self.mode, needed_by=needed_by)

    def open(self) -> Judge:
        """Return the judge; nothing is loaded or asked yet.

        Raises:
            RequestError: there is no such judge.
        """
        identity = self.identity  # refuses settings that contradict each other, before anything is imported
        module = import_module(BACKENDS[self.settings.backend].module)
        judge: Judge = module.open_judge(self, identity=identity, cache=ReplyCache(self.cache))
        return judge
