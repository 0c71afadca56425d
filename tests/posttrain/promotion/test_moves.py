"""Moves of aliases: what they set, and what settles them wherever they were cut off."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from posttrain.errors import RequestError
from posttrain.promotion.moves import (
    CHALLENGER,
    CHAMPION,
    ORDER,
    PREVIOUS,
    Kind,
    Move,
    Outcome,
    Settlement,
    Step,
    after_steps,
    aliases_of,
    promotion,
    rollback,
    settlement,
)

VERSIONS = ("1", "2", "3", "4")


def aliases(champion: str | None = None, previous: str | None = None, challenger: str | None = None) -> dict[str, str | None]:
    return {PREVIOUS: previous, CHAMPION: champion, CHALLENGER: challenger}


@dataclass
class Registry:
    """What MLflow does: one alias a call, and the aliases of a version go with it."""

    now: dict[str, str | None]
    known: set[str] = field(default_factory=lambda: set(VERSIONS))

    def set(self, step: Step) -> None:
        alias, version = step
        assert version is None or version in self.known, "MLflow refuses an alias of a version that is not there"
        self.now[alias] = version

    def delete(self, version: str) -> None:
        self.known.discard(version)
        self.now = {alias: None if at == version else at for alias, at in self.now.items()}

    def settle(self, move: Move, *, loads: bool = True, is_written: bool = True) -> Settlement:
        return settlement(move, dict(self.now), known=self.known, loads=loads, is_written=is_written)


MOVES = {
    "first": promotion(aliases(challenger="1"), "1"),
    "first, not the challenger": promotion(aliases(challenger="2"), "1"),
    "second": promotion(aliases("1", challenger="2"), "2"),
    "third": promotion(aliases("2", "1", "3"), "3"),
    "third, not the challenger": promotion(aliases("2", "1", "4"), "3"),
    "the previous one again": promotion(aliases("2", "1", "1"), "1"),
    "after a champion that was deleted": promotion(aliases(None, "1", "2"), "2"),
    "the previous one, after a champion that was deleted": promotion(aliases(None, "1"), "1"),
    "rollback": rollback(aliases("2", "1")),
    "rollback beside a challenger": rollback(aliases("2", "1", "3")),
    "rollback of the challenger": rollback(aliases("2", "1", "2")),
    "rollback without a champion": rollback(aliases(None, "1", "3")),
}
CUT_OFF = [(name, done) for name, move in MOVES.items() for done in range(len(move.steps) + 1)]
"""Every move, cut off after each number of its steps."""


def cut_off(name: str, done: int) -> tuple[Move, Registry]:
    move = MOVES[name]
    registry = Registry(dict(move.before))
    for step in move.steps[:done]:
        registry.set(step)
    return move, registry


# --- what a move sets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("first", aliases("1")),
        ("first, not the challenger", aliases("1", challenger="2")),
        ("second", aliases("2", "1")),
        ("third", aliases("3", "2")),
        ("third, not the challenger", aliases("3", "2", "4")),
        ("the previous one again", aliases("1", "2")),
        ("after a champion that was deleted", aliases("2", "1")),
        ("the previous one, after a champion that was deleted", aliases("1")),
        ("rollback", aliases("1", "2")),
        ("rollback beside a challenger", aliases("1", "2", "3")),
        ("rollback of the challenger", aliases("1", "2")),
        ("rollback without a champion", aliases("1", None, "3")),
    ],
)
def test_by_hand(name: str, after: dict[str, str | None]) -> None:
    move = MOVES[name]
    assert dict(move.after) == after
    assert move.kind is (Kind.ROLLBACK if name.startswith("rollback") else Kind.PROMOTE)
    assert after_steps(move.before, move.steps) == after


def test_the_old_champion_has_its_second_name_before_it_loses_the_first() -> None:
    assert MOVES["third"].steps == ((PREVIOUS, "2"), (CHAMPION, "3"), (CHALLENGER, None))
    assert (MOVES["third"].version, MOVES["third"].leaves, MOVES["first"].leaves) == ("3", "2", None)


def test_going_back_twice_is_where_one_was() -> None:
    there = rollback(aliases("2", "1", "3"))
    assert dict(rollback(there.after).after) == dict(there.before)


def test_a_promotion_and_a_rollback_leave_the_same_champion() -> None:
    for name in ("second", "third", "third, not the challenger"):
        move = MOVES[name]
        assert rollback(move.after).version == move.leaves


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_move_survives_json(move: Move) -> None:
    assert Move.from_record(json.loads(json.dumps(move.as_record()))) == move


@pytest.mark.parametrize("record", [{}, {"kind": "promote"}, {"kind": "promote", "before": {}, "after": {}}, {"kind": "sell"}])
def test_what_is_no_record_is_refused(record: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        Move.from_record(record)


def test_other_aliases_are_nobodys_business() -> None:
    assert aliases_of({"champion": "2", "mine": "1"}) == aliases("2")


def test_refusals() -> None:
    for move, sentence in (
        (lambda: promotion(aliases("2"), "2"), "version 2 is the champion already: there is nothing to promote"),
        (
            lambda: rollback(aliases("1")),
            "there is no previous champion to go back to: version 1 is the only champion so far. Promote another version: "
            "make promote VERSION=… WHY=…",
        ),
        (
            lambda: rollback(aliases(challenger="1")),
            "there is no previous champion to go back to: no version was ever promoted. Promote another version: "
            "make promote VERSION=… WHY=…",
        ),
        (
            lambda: rollback(aliases("1", "1")),
            "champion and previous are both version 1, so there is nothing to go back to: an alias was set by hand. Promote "
            "another version: make promote VERSION=… WHY=…",
        ),
    ):
        with pytest.raises(RequestError) as told:
            move()
        assert str(told.value) == sentence


# --- what settles a half-done one -------------------------------------------------------------------------------------


def serving(registry: Registry, steps: tuple[Step, ...]) -> Iterator[str | None]:
    """Yield the champion before, between and after steps, each of which changes something."""
    yield registry.now[CHAMPION]
    for step in steps:
        assert registry.now[step[0]] != step[1]
        registry.set(step)
        yield registry.now[CHAMPION]


@pytest.mark.parametrize("name", MOVES)
def test_some_version_serves_at_every_moment(name: str) -> None:
    move, registry = cut_off(name, 0)
    champions = list(serving(registry, move.steps))
    assert champions[-1] == move.version
    assert set(champions) <= {move.leaves, move.version}, "none but the old and the new one, and never none in between"


@pytest.mark.parametrize(("name", "done"), CUT_OFF)
def test_a_move_whose_version_is_there_is_completed(name: str, done: int) -> None:
    move, registry = cut_off(name, done)
    settled = registry.settle(move)
    assert settled.outcome is Outcome.COMPLETED
    assert settled.steps == move.steps[done:], "what is not set yet, in the order of the move"
    champions = list(serving(registry, settled.steps))
    assert registry.now == dict(move.after)
    assert set(champions) <= {move.leaves, move.version}
    again = registry.settle(move)
    assert (again.outcome, again.steps) == (Outcome.COMPLETED, ()), "settling is done once"


@pytest.mark.parametrize(("name", "done"), CUT_OFF)
def test_a_move_whose_version_does_not_load_is_undone(name: str, done: int) -> None:
    move, registry = cut_off(name, done)
    settled = registry.settle(move, loads=False)
    assert settled.outcome is Outcome.UNDONE
    assert settled.why.startswith(f"version {move.version} does not load; its process ended ")
    list(serving(registry, settled.steps))
    assert registry.now == dict(move.before)
    if settled.steps and settled.steps[0][0] != CHAMPION:
        assert CHAMPION not in dict(settled.steps), "what serves is set back first"


@pytest.mark.parametrize(("name", "done"), CUT_OFF)
def test_a_move_whose_version_was_deleted_is_undone(name: str, done: int) -> None:
    move, registry = cut_off(name, done)
    registry.delete(move.version)
    settled = registry.settle(move)
    assert settled.outcome is Outcome.UNDONE
    assert settled.why.startswith(f"version {move.version} is not in the registry any more; ")
    list(serving(registry, settled.steps))
    assert registry.now == {alias: None if at == move.version else at for alias, at in move.before.items()}


@pytest.mark.parametrize(("name", "done"), CUT_OFF)
def test_a_settlement_that_is_cut_off_itself_ends_the_same(name: str, done: int) -> None:
    for loads in (True, False):
        move, registry = cut_off(name, done)
        whole = registry.settle(move, loads=loads)
        for cut in range(len(whole.steps) + 1):
            move, registry = cut_off(name, done)
            for step in whole.steps[:cut]:
                registry.set(step)
            for step in registry.settle(move, loads=loads).steps:
                registry.set(step)
            assert registry.now == dict(move.after if loads else move.before)


@pytest.mark.parametrize("name", MOVES)
def test_an_intent_that_was_not_written_whole_set_nothing(name: str) -> None:
    move, registry = cut_off(name, 0)
    settled = registry.settle(move, is_written=False)
    assert (settled.outcome, settled.steps) == (Outcome.UNDONE, ())
    assert settled.why == "its process ended before it set any alias"


@pytest.mark.parametrize(("name", "done"), CUT_OFF)
def test_a_champion_that_somebody_set_by_hand_stays(name: str, done: int) -> None:
    move, registry = cut_off(name, done)
    registry.now[CHAMPION] = "4"
    settled = registry.settle(move)
    if "4" in (move.version, move.leaves):  # it would be one of its own places
        return
    assert (settled.outcome, settled.steps) == (Outcome.OVERTAKEN, ())
    assert settled.why == "its process ended half-way, and champion is version 4 by now, which stays"


@pytest.mark.parametrize(("name", "done"), CUT_OFF)
@pytest.mark.parametrize("loads", [True, False])
def test_a_challenger_that_a_pipeline_made_meanwhile_stays(name: str, done: int, loads: bool) -> None:
    move, registry = cut_off(name, done)
    registry.known.add("5")
    registry.now[CHALLENGER] = "5"
    for step in registry.settle(move, loads=loads).steps:
        registry.set(step)
    assert registry.now == {**(move.after if loads else move.before), CHALLENGER: "5"}


@pytest.mark.parametrize(("name", "done"), CUT_OFF)
def test_an_old_champion_that_was_deleted_gets_no_alias(name: str, done: int) -> None:
    move, registry = cut_off(name, done)
    if move.leaves is None:
        return
    registry.delete(move.leaves)
    settled = registry.settle(move)
    assert settled.outcome is Outcome.COMPLETED
    list(serving(registry, settled.steps))
    assert registry.now == {alias: None if at == move.leaves else at for alias, at in move.after.items()}


def test_what_was_done_is_told() -> None:
    move, registry = cut_off("third", 1)
    assert registry.settle(move).why == (
        "its process ended half-way; set by the next command: champion = version 3, no challenger"
    )
    move, registry = cut_off("third", 2)
    assert registry.settle(move, loads=False).why == (
        "version 3 does not load; its process ended half-way; set back by the next command: champion = version 2, "
        "previous = version 1"
    )
    move, registry = cut_off("third", 3)
    assert registry.settle(move).why == ("its process ended before it could write the outcome; every alias stood as it had to")


def test_the_aliases_are_those_of_the_design() -> None:
    assert set(ORDER) == {"champion", "challenger", "previous"}
    assert [str(kind) for kind in Kind] == ["promote", "rollback"]
