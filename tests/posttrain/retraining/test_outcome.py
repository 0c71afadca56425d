"""The sentence that a retraining ends with."""

import pytest

from posttrain.retraining import outcome
from posttrain.retraining.changes import Changes, Made, Stage, changes

NOTHING = Changes()
BETA = changes(
    Made("dpo", "1", stages=(Stage("dpo", "a", {"dpo.beta": 0.1}),)),
    Made("dpo", "1", stages=(Stage("dpo", "b", {"dpo.beta": 0.2}),)),
)
LOST = Changes(stages=("dpo",))


@pytest.mark.parametrize(
    ("found", "how", "says"),
    [
        (BETA, {"champion": None, "made_on": ""}, "there is no champion yet"),
        (
            BETA,
            {"champion": "3", "made_on": "2026-11-28"},
            "settings (dpo.beta 0.1 → 0.2) changed after version 3 of 2026-11-28, the champion",
        ),
        (
            NOTHING,
            {"champion": "3", "made_on": "2026-11-28", "is_forced": True},
            "it was asked for (FORCE=1), although nothing that matters has changed since version 3 of 2026-11-28",
        ),
        (
            LOST,
            {"champion": "3", "made_on": "2026-11-28", "is_forced": True},
            "results of stages are gone by which to tell whether anything has changed since version 3 of 2026-11-28",
        ),
    ],
)
def test_what_calls_for_it(found, how, says):
    assert outcome.why_retrained(found, **how) == says


def test_each_end_has_its_figures():
    decision = "version 5 is not promoted over version 3: accuracy -5.0 points [-9.0, -1.0]"
    assert outcome.kept(decision, "3") == f"kept: {decision}; version 3 still serves"
    assert outcome.kept(decision, None) == f"kept: {decision}; no version serves yet"
    assert (
        outcome.promoted("version 5 is promoted", "data changed")
        == "promoted: version 5 is promoted; retrained since data changed"
    )
    assert outcome.unchanged("3", "2026-11-28") == (
        "unchanged: nothing that matters has changed since version 3 of 2026-11-28, the champion; nothing was trained"
    )
    assert outcome.arrived("3", "results are gone") == (
        "unchanged: the pipeline arrived at version 3, the champion itself; it ran since results are gone"
    )
    assert outcome.kept_rolled_back("5", "2026-11-28 by ann: swears", "3") == (
        "kept: version 5 was taken back (2026-11-28 by ann: swears), so it is not promoted by itself; to promote it: "
        "make promote VERSION=5 WHY=…; version 3 still serves"
    )


def test_an_end_that_would_only_be_repeated_tells_the_first_one():
    record = {"created": "2026-11-28T03:00:00+00:00", "says": "kept: version 5 is worse; version 3 still serves", "error": None}
    assert outcome.unchanged_since(record) == (
        "unchanged: nothing that matters has changed since the retraining of 2026-11-28, after which version 5 is worse; "
        "version 3 still serves"
    )
    broken = record | {"error": {"says": "the reward model knows nothing."}}
    assert outcome.failed_before(broken) == (
        "the reward model knows nothing. That was on 2026-11-28; data, settings and code are the same, so it was not tried "
        "again. To try all the same: FORCE=1"
    )


def test_a_reason_fits_the_history():
    assert outcome.history_reason("schedule nightly", "since data changed") == "retraining (schedule nightly): since data changed"
    long = outcome.history_reason("by hand", "x" * 2_000)
    assert len(long) == 1_000 and long.endswith("x…")
    whole = outcome.history_reason("by hand", "x" * (1_000 - len("retraining (by hand): ")))
    assert len(whole) == 1_000 and whole.endswith("xx")
