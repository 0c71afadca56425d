"""What is measured when, and what a pipeline that ends early leaves of it."""

from pathlib import Path
from typing import Any

import pytest

from flows.evaluation import measured_so_far, run_evaluations
from flows.run import Done, Run
from posttrain.settings.config import merge
from tasks.workspace.artifacts import Artifact
from tasks.workspace.paths import Paths

RIGHT = {"accuracy": 0.25, "accuracy_low": 0.2, "accuracy_high": 0.3, "finished": 1.0, "kl": 0.5}


class Measured(Run):
    """A run whose evaluations give set figures at once; what goes onto the pipeline's own run is kept in `told`."""

    def __init__(self, root: Path, *words: str, metrics: dict[str, float]) -> None:
        super().__init__(Paths(root), merge({}, words), ledger=Any, parent="p", say=print)  # type: ignore[arg-type]
        self.metrics, self.told = metrics, {}
        for name in ("tokenizer", "validate"):
            self.done.append(Done(name, artifact(name, {"context": 64.0}), cached=True, run_id=""))

    def stage(self, name, compute, /, *, read=None, resumable=False, trains=False, **arguments):
        self.done.append(Done(name, artifact(name, self.metrics), cached=False, run_id=""))
        return self.done[-1].artifact

    def keep_metrics(self, metrics):
        assert not set(metrics) & set(self.told), "told twice"
        self.told |= metrics


def artifact(name: str, metrics: dict[str, float] | None = None) -> Artifact:
    return Artifact(name, f"key of {name}", name, 1.0, metrics or {}, {}, f"digest of {name}")


def names(run: Run) -> list[str]:
    return [one.name for one in run.done][2:]


def test_base_and_start_are_measured_first_and_not_again(tmp_path):
    run = Measured(tmp_path, "method=dpo", metrics=RIGHT)
    models = {"base": artifact("base"), "sft": artifact("sft")}
    before = run_evaluations(run, models, done={})
    assert names(run) == ["evaluate-sft", "evaluate-base"] and list(before) == ["base", "sft"]
    after = run_evaluations(run, {**models, "dpo": artifact("dpo")}, done=before)
    assert names(run) == ["evaluate-sft", "evaluate-base", "evaluate-dpo"] and list(after) == ["base", "sft", "dpo"]
    kept = ("accuracy", "accuracy_low", "accuracy_high", "finished")
    assert run.told == {f"eval/{model}/{name}": RIGHT[name] for model in after for name in kept}


@pytest.mark.parametrize(
    ("metrics", "says"),
    [(RIGHT, "sft 25.0 % [20.0, 30.0] right"), ({"finished": 0.5}, "sft 50% of the responses finished (no answers to check)")],
)
def test_what_was_measured_before_the_end_is_a_line(tmp_path, metrics, says):
    run = Measured(tmp_path, "method=dpo", metrics=metrics)
    assert measured_so_far(run) == ""
    run_evaluations(run, {"base": artifact("base"), "sft": artifact("sft")}, done={})
    told = measured_so_far(run)
    assert told.startswith("measured before it ended: base ") and says in told and "dpo" not in told
    assert told.endswith("as eval/base/…: make ui") and "\n" not in told
