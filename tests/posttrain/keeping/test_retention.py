"""Which pipelines go: counts and ages by hand, and everything that holds one beyond its age."""

import pytest

from posttrain.errors import RequestError
from posttrain.keeping.retention import DAY, Holders, Keep, Pipeline, retain

NOW = 1_795_921_200.0
V1, V2, V3 = ("posttrain-world", "1"), ("posttrain-world", "2"), ("posttrain-world", "3")
REWARD = ("posttrain-world-reward", "1")


def pipeline(days: float, **facts: object) -> Pipeline:
    """Return a pipeline of so many days ago, called after them."""
    return Pipeline(f"run{days:g}", f"p{days:g}", NOW - days * DAY, **facts)  # type: ignore[arg-type]


def gone(pipelines: list[Pipeline], keep: Keep, holders: Holders | None = None) -> list[str]:
    return [one.pipeline_id for one in retain(pipelines, holders or Holders(), keep, now=NOW).goes]


@pytest.mark.parametrize(
    ("text", "keep"),
    [("10", Keep(count=10)), ("1", Keep(count=1)), ("30d", Keep(days=30)), (" 7d ", Keep(days=7))],
)
def test_a_count_or_an_age(text: str, keep: Keep) -> None:
    assert Keep.read(text) == keep and str(keep) == text.strip()


@pytest.mark.parametrize("text", ["", "0", "0d", "-1", "1.5", "10w", "d", "ten", "1234567"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as told:
        Keep.read(text)
    assert str(told.value) == (
        "KEEP must be how many of the newest pipelines stay, or for how many days one does, at least 1 (KEEP=10, KEEP=30d), got "
        f"{text or 'nothing'}"
    )


def test_the_oldest_go_first_whatever_order_they_come_in() -> None:
    four = [pipeline(2), pipeline(9), pipeline(1), pipeline(5)]
    assert gone(four, Keep(count=2)) == ["p9", "p5"]
    assert gone(four, Keep(count=4)) == [] and gone(four, Keep(count=1)) == ["p9", "p5", "p2"]
    assert gone([], Keep(count=1)) == []


def test_an_age_keeps_what_is_exactly_so_old() -> None:
    three = [pipeline(5), pipeline(5.001), pipeline(4.999)]
    assert gone(three, Keep(days=5)) == ["p5.001"]


def test_the_horizon_is_where_the_young_begin() -> None:
    three = [pipeline(1), pipeline(3), pipeline(8)]
    assert retain(three, Holders(), Keep(count=2), now=NOW).horizon == NOW - 3 * DAY
    assert retain(three, Holders(), Keep(days=5), now=NOW).horizon == NOW - 5 * DAY
    assert retain([], Holders(), Keep(count=2), now=NOW).horizon is None


@pytest.mark.parametrize(
    ("facts", "holders", "why"),
    [
        ({"is_running": True}, Holders(), "runs"),
        ({"versions": frozenset({V1})}, Holders(aliased={V1}), "an alias names its version"),
        ({"comparison": "c1"}, Holders(comparisons={"c1"}), "a comparison"),
        ({}, Holders(pipelines={"p9": "a report"}), "a report"),
        ({}, Holders(named={V2}, makers={V2: "run9"}), "made a version that is needed"),
        ({}, Holders(aliased={V2}, makers={V2: "run9"}), "made a version that is needed"),
    ],
)
def test_what_holds_an_old_one(facts: dict[str, object], holders: Holders, why: str) -> None:
    found = retain([pipeline(1), pipeline(9, **facts), pipeline(8)], holders, Keep(count=1), now=NOW)
    assert [one.pipeline_id for one in found.goes] == ["p8"]
    assert found.stays == {"run1": "new", "run9": why}


def test_a_comparison_whose_page_is_gone_holds_nothing() -> None:
    assert gone([pipeline(1), pipeline(9, comparison="c1")], Keep(count=1), Holders(comparisons={"c2"})) == ["p9"]


def test_what_stays_keeps_what_it_names_and_who_made_that_and_so_on() -> None:
    # the newest was rewarded by REWARD, which p7 made, whose settings name V3, which p9 made; p8 stands alone
    found = retain(
        [
            pipeline(1, names=frozenset({REWARD})),
            pipeline(7, names=frozenset({V3}), versions=frozenset({REWARD})),
            pipeline(8),
            pipeline(9),
        ],
        Holders(makers={REWARD: "run7", V3: "run9", V1: "run8"}),
        Keep(count=1),
        now=NOW,
    )
    assert [one.pipeline_id for one in found.goes] == ["p8"]
    assert found.versions == {REWARD, V3}


def test_shared_stages_and_versions_stay_with_any_that_has_them() -> None:
    base, old, new = ("base", "k1"), ("sft", "k2"), ("sft", "k3")
    found = retain(
        [
            pipeline(1, stages=frozenset({base, new}), versions=frozenset({V2})),
            pipeline(9, stages=frozenset({base, old}), versions=frozenset({V1, V2})),
        ],
        Holders(),
        Keep(count=1),
        now=NOW,
    )
    assert found.stages == {base, new} and found.versions == {V2}


def test_a_maker_that_the_ledger_has_no_more_is_passed_over() -> None:
    assert gone([pipeline(1), pipeline(9)], Keep(count=1), Holders(aliased={V1}, makers={V1: "lost"})) == ["p9"]
