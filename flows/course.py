"""A pipeline under way: what every stage from the base on needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.stages import Stages
from posttrain.settings.config import Config, flat
from tasks.base_model.identity import device_type
from tasks.workspace.artifacts import Artifact


@dataclass(frozen=True)
class Course:
    """Stages, settings, and what the first stages gave.

    Attributes:
        stages: runs them.
        config: of the pipeline.
        checked: the validated data.
        tokenizer: of the base.
    """

    stages: Stages
    config: Config
    checked: Artifact
    tokenizer: Artifact

    def run(
        self,
        name: str,
        compute: str,
        *sections: str,
        reads: Mapping[str, Artifact | str | None],
        also: Mapping[str, Any] | None = None,
        resumable: bool = False,
        **given: Any,
    ) -> Artifact:
        """Run a stage that loads a model: seed, device, model, tokenizer and context are part of its key and its arguments.

        Args:
            name: of the stage.
            compute: `module:function`.
            sections: of the settings that decide its result.
            reads: artifacts, or digests, of what else decides it; None for what is not there.
            also: settings of other sections that decide it.
            resumable: see `Stages.run`.
            given: arguments of its own.
        """
        digests = {what: made.digest if isinstance(made, Artifact) else made or "" for what, made in reads.items()}
        return self.stages.run(
            name,
            compute,
            key_settings={"seed": self.config.seed, **on_device(self.config), **flat(self.config, *sections), **(also or {})},
            key_inputs={**digests, "tokenizer": self.tokenizer.digest},
            resumable=resumable,
            tokenizer=self.tokenizer.path / "tokenizer",
            model=self.config.model,
            context=int(self.tokenizer.metrics["context"]),
            seed=self.config.seed,
            **given,
        )

    @property
    def data(self) -> Path:
        """The folder of the validated data."""
        return self.checked.path


def on_device(config: Config) -> dict[str, Any]:
    """Return how models are loaded, and on what: a GPU's weights are not a CPU's."""
    return {"device": device_type(), **flat(config, "model")}
