"""Who becomes challenger: a worse version does not."""

import pytest

from posttrain.promotion.moves import CHALLENGER, CHAMPION, PREVIOUS
from posttrain.promotion.standing import Gain, holder, standing
from posttrain.statistics.intervals import Interval

PROMOTE = "promotion is a separate step: make promote VERSION=7 WHY=…"


def aliases(champion: str | None = None, challenger: str | None = None) -> dict[str, str | None]:
    return {PREVIOUS: None, CHAMPION: champion, CHALLENGER: challenger}


def points(estimate: float) -> Gain:
    return Gain(Interval(estimate, estimate - 0.02, estimate + 0.02), is_share=True)


@pytest.mark.parametrize(
    ("now", "against"),
    [
        (aliases(), None),
        (aliases("1"), (CHAMPION, "1")),
        (aliases(challenger="2"), (CHALLENGER, "2")),
        (aliases("1", "2"), (CHALLENGER, "2")),
        (aliases("7", "2"), None),
        (aliases("1", "7"), None),
    ],
)
def test_a_new_version_is_measured_against_the_challenger_else_the_champion(
    now: dict[str, str | None], against: tuple[str, str] | None
) -> None:
    assert holder(now, "7") == against


@pytest.mark.parametrize(
    ("estimate", "is_challenger", "why"),
    [
        (0.013, True, f"is registered as challenger: +1.3 points [-0.7, 3.3] over version 2, challenger until now; {PROMOTE}"),
        (0.0, True, f"is registered as challenger: +0.0 points [-2.0, 2.0] over version 2, challenger until now; {PROMOTE}"),
        (-0.001, False, "is not challenger: -0.1 points [-2.1, 1.9] against version 2, the challenger, which keeps its name"),
    ],
)
def test_the_sign_of_the_paired_gain_decides(estimate: float, is_challenger: bool, why: str) -> None:
    told = standing(aliases("1", "2"), "7", gain=points(estimate))
    assert (told.is_challenger, told.why) == (is_challenger, why)
    assert told.as_record("7") == {"decision": "none", "is_challenger": is_challenger, "why": f"version 7 {why}"}


def test_losses_are_told_in_nats() -> None:
    gain = Gain(Interval(-0.0314, -0.05, -0.01), is_share=False)
    told = standing(aliases("1"), "7", gain=gain)
    assert told.why == (
        "is not challenger: -0.031 nats a token of held-out loss [-0.050, -0.010] against version 1, the champion, which keeps "
        "its name"
    )


@pytest.mark.parametrize(
    ("now", "is_challenger", "why"),
    [
        (aliases(), True, f"is registered as challenger; {PROMOTE}"),
        (aliases("7"), False, "is the champion"),
        (aliases("1", "7"), True, "is the challenger already"),
        (
            aliases("1"),
            True,
            "is registered as challenger without a comparison: version 1, champion until now, was not measured on the same "
            f"held-out questions; {PROMOTE}",
        ),
    ],
)
def test_where_nothing_compares(now: dict[str, str | None], is_challenger: bool, why: str) -> None:
    told = standing(now, "7", gain=None)
    assert (told.is_challenger, told.why) == (is_challenger, why)


def test_why_nothing_compares_is_told() -> None:
    told = standing(aliases("1"), "7", gain=None, unmeasured="has no evaluation any more")
    assert "version 1, champion until now, has no evaluation any more;" in told.why


def test_a_version_that_was_taken_back_does_not_come_up_again_by_itself() -> None:
    told = standing(aliases("1"), "7", gain=points(0.2), is_rolled_back=True)
    assert (told.is_challenger, told.why) == (
        False,
        f"was champion and was rolled back, so it does not become challenger by itself; {PROMOTE}",
    )
