"""A stage's result in a sentence: the figures of its kind, with their intervals, and whether it was computed."""

import json

import pytest

from tasks.tracking.ledger import Ledger
from tasks.tracking.stage_notes import stage_sentence
from tests.tasks.tracking.test_ledger import KEY, _quiet, artifact, ledger, start

__all__ = ["_quiet", "ledger"]

RIGHT = {"accuracy": 0.5704, "accuracy_low": 0.541, "accuracy_high": 0.5981}
GAIN = {"accuracy_gain": -0.0321, "accuracy_gain_low": -0.05, "accuracy_gain_high": 0.01}


@pytest.mark.parametrize(
    ("stage", "metrics", "sentence"),
    [
        (
            "evaluate-dpo",
            RIGHT | GAIN | {"kl": 1.234, "kl_low": 1.0, "kl_high": 1.5, "finished": 1.0},
            "evaluate-dpo: 57.0 % [54.1, 59.8] of held-out questions right (greedy); -3.2 [-5.0, 1.0] points against the model "
            "it started from, same questions; KL 1.23 [1.00, 1.50] nats from the model it started from; it took 6.5 s.",
        ),
        ("reward_model", RIGHT, "reward_model: 57.0 % [54.1, 59.8] of held-out labels ranked right; it took 6.5 s."),
        (
            "label",
            {"labels": 1234, "agreement": 0.5},
            "label: 1,234 labels; two annotators agree on 50.0 % of shared pairs; it took 6.5 s.",
        ),
        ("dpo", {"loss": 0.5, "pairs": 52}, "dpo: 52 pairs; loss 0.50 at the end; it took 6.5 s."),
        ("evaluate-dpo", {"reference_loss": 2.0}, "evaluate-dpo: held-out loss 2.00 nats a token; it took 6.5 s."),
        ("something_new", {"novel": 1.0}, "something_new: it took 6.5 s."),
    ],
)
def test_a_stage_says_its_figures(stage: str, metrics: dict[str, float], sentence: str) -> None:
    assert stage_sentence({"stage": stage, "metrics": metrics, "seconds": 6.5}) == sentence


def test_a_figure_that_is_undefined_is_not_told() -> None:
    assert (
        stage_sentence({"stage": "evaluate-x", "metrics": {"accuracy": None, "kl": None}, "seconds": 0})
        == "evaluate-x: it took 0.0 s."
    )


def test_a_stages_run_begins_with_its_result_and_a_cached_one_says_that_it_was_reused(ledger: Ledger, tmp_path) -> None:
    parent, folder = start(ledger), artifact(tmp_path / "a")
    facts = json.loads((folder / "stage.json").read_text())
    (folder / "stage.json").write_text(json.dumps(facts | {"metrics": {"loss": 0.25}}))
    ran = ledger.start_stage(parent, "sft", key=KEY, settings={})
    ran.finish(folder)
    notes = [
        ledger.client.get_run(one).data.tags["mlflow.note.content"]
        for one in (ran.run_id, ledger.log_cached_stage(parent, folder))
    ]
    assert notes == [
        "sft: loss 0.25 at the end; it took 6.5 s.",
        "sft: loss 0.25 at the end; reused, nothing was computed again (it took 6.5 s once).",
    ]
