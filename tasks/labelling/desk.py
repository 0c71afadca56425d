"""The desk: one open batch and the people who label it. The page asks it who is there, what comes next, and what counts."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random

from posttrain.labelling.answers import Choice, Event, checked_choice, checked_seconds
from posttrain.labelling.items import Item, Shown
from posttrain.labelling.progress import Progress, progress_of
from posttrain.labelling.standing import Turn
from posttrain.labelling.turns import going_on, has_room, is_over, next_item
from tasks.labelling.batches import BATCH, Batch, folded, read_items, utc_now
from tasks.labelling.log import Log, locked
from tasks.labelling.people import Door, Refused

__all__ = ["Desk", "Refused", "TurnOver"]
LEASE = 900.0
"""Seconds for which an item that was shown waits for its answer."""


class TurnOver(LookupError):  # noqa: N818 - nothing is broken: the page shows the next item
    """An answer to a showing that is over: it was never this person's, or others have answered the item meanwhile."""


class Desk:
    """One open batch, and many annotators; every method may be called from any thread.

    What is answered is on the disk before `answer` returns. All state is in memory, folded from the log once; a key press costs
    one write.

    Args:
        batch: that is labelled.
        now: the machine's clock: times in the log, and when links expire.
        lease_seconds: for which an item that was shown waits for its answer; then another may be shown it.
        random: of the order in which responses are shown.
        monotonic: seconds of a clock that never goes back, of which leases are.

    Raises:
        RequestError: another process has the batch open.
        DataError: a file of it is damaged.
        StorageError: the disk refused.
    """

    def __init__(
        self,
        batch: Batch,
        *,
        now: Callable[[], datetime] = utc_now,
        lease_seconds: float = LEASE,
        random: Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.batch = batch
        self._now, self._monotonic, self._lease_seconds = now, monotonic, lease_seconds
        self._random = random or Random()
        self._guard = threading.RLock()
        self._door = Door(batch)
        self._items = read_items(batch)
        self._log = Log(batch.log)
        self._ends: dict[str, float] = {}
        try:
            self._standing = folded(batch, self._items, self._log.events)
            self._take_over_leases()
        except BaseException:
            self._log.close()
            raise

    def who(self, token: str) -> str:
        """Return the name of the person whose token it is.

        Raises:
            Refused: nobody's, it holds no longer, or the batch is finished.
        """
        with self._guard:
            name = self._door.who(token, self._now())
        if self.batch.is_closed:
            raise Refused("finished")
        return name

    def next(self, person: str) -> Shown | None:
        """Return what a person is shown: the item that he has before him, else a new one; None where nothing is left now.

        What others have before them may come back, so a later call may return an item; `progress` says what is left.

        Raises:
            Refused: the batch is finished.
            StorageError: the disk refused.
        """
        with self._changing() as made:
            return self._next(person, made)

    def answer(self, person: str, turn: str, choice: Choice, *, seconds: float) -> str:
        """Count an answer, and return the id of its event once it is on the disk.

        The same turn again changes nothing and returns the same id, as does a second turn of an item that he answered.

        Args:
            person: who answers.
            turn: of the showing that he answers.
            choice: as `posttrain.labelling.answers.Choice` says, of the responses as shown.
            seconds: since it was shown.

        Raises:
            RequestError: it is no answer to this kind of item; nothing was counted.
            TurnOver: the showing was not his, or its lease ended and others have the item.
            Refused: the batch is finished.
            StorageError: the disk refused; nothing was counted, and the same call may be made again.
        """
        with self._changing() as made:
            return self._answer(person, turn, choice, seconds, made)

    def answer_and_next(self, person: str, turn: str, choice: Choice, *, seconds: float) -> tuple[str, Shown | None]:
        """Count an answer as `answer` does, and return its event's id and what comes next, as `next` does; in one write."""
        with self._changing() as made:
            return self._answer(person, turn, choice, seconds, made), self._next(person, made)

    def skip(self, person: str, turn: str) -> str:
        """Note that a person does not answer an item, and return the event's id; he is not shown it again.

        Raises:
            TurnOver: the showing was not his.
            Refused: the batch is finished.
            StorageError: the disk refused; nothing was counted.
        """
        with self._changing() as made:
            return self._skip(person, turn, made)

    def skip_and_next(self, person: str, turn: str) -> tuple[str, Shown | None]:
        """Skip as `skip` does, and return the event's id and what comes next, in one write."""
        with self._changing() as made:
            return self._skip(person, turn, made), self._next(person, made)

    def undo(self, person: str) -> Shown | None:
        """Take back a person's last answer or skip and show him that item again; None where he has given none.

        Raises:
            Refused: the batch is finished.
            StorageError: the disk refused; nothing was taken back.
        """
        with self._changing() as made:
            done = self._standing.acts(person).done
            if not done:
                return None
            last = done[-1]
            self._do(made, person, "undo", item=last.item, turn=last.turn, undoes=last.id)
            return self._show(person, self._standing.items[last.item], made)

    def progress(self, person: str) -> Progress:
        """Return how far a person is, and the batch."""
        with self._guard:
            return progress_of(self._standing, person)

    def is_over(self) -> bool:
        """Return whether nothing is left to ask (`posttrain.labelling.turns.is_over`)."""
        with self._guard:
            return is_over(self._standing, self._door.holding(self._now()))

    def close(self) -> None:
        """Let go of the batch; a second call does nothing."""
        with self._guard:
            self._log.close()

    # --- inside -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[list[Event]]:
        """Collect events that are taken into the state at once, then write them; if that fails the state is as the log is.

        The lock keeps the end of the batch, which another process may ask for, from coming between the look and the write.
        """
        with self._guard, locked(self.batch.folder / BATCH):
            if self.batch.is_closed:
                raise Refused("finished")
            made: list[Event] = []
            length = self._log.length
            try:
                yield made
                if made:
                    self._log.append(made)
            except BaseException:
                if made and self._log.length == length:
                    self._standing = folded(self.batch, self._items, self._log.events)
                raise

    def _do(self, made: list[Event], person: str, kind: str, **told: object) -> Event:
        at = self._now().isoformat(timespec="milliseconds")
        event = Event.model_validate({"id": secrets.token_hex(8), "at": at, "person": person, "kind": kind, **told})
        made.append(event)
        self._standing.apply(event)
        return event

    def _next(self, person: str, made: list[Event]) -> Shown | None:
        now = self._monotonic()
        turn, over = going_on(self._standing, person, ends=self._ends, now=now)
        for each in over:
            self._standing.drop_turn(each)
        if turn is not None:
            # he is still there: what he has before him is his for another while, which needs no write
            self._ends[turn] = now + self._lease_seconds
            shown = self._standing.turns[turn]
            return Shown(self._standing.items[shown.item], shown.order, turn)
        item = next_item(self._standing, person, ends=self._ends, now=now)
        return None if item is None else self._show(person, item, made)

    def _show(self, person: str, item: Item, made: list[Event]) -> Shown:
        """Show an item in an order that is drawn anew."""
        order = tuple(self._random.sample(range(len(item.responses)), len(item.responses)))
        turn = secrets.token_hex(8)
        until = (self._now() + timedelta(seconds=self._lease_seconds)).isoformat(timespec="milliseconds")
        self._ends[turn] = self._monotonic() + self._lease_seconds
        self._do(made, person, "lease", item=item.id, turn=turn, order=order, until=until)
        return Shown(item, order, turn)

    def _answer(self, person: str, turn: str, choice: Choice, seconds: float, made: list[Event]) -> str:
        shown, ended = self._turn(person, turn)
        if ended:
            return ended
        checked, took = checked_choice(self._standing.items[shown.item], choice), checked_seconds(seconds)
        if not has_room(self._standing, shown.item, person, ends=self._ends, now=self._monotonic()):
            raise TurnOver(f"turn {turn} of {person} is over, and others have answered its item or have it before them")
        return self._do(made, person, "answer", item=shown.item, turn=turn, order=shown.order, choice=checked, seconds=took).id

    def _skip(self, person: str, turn: str, made: list[Event]) -> str:
        shown, ended = self._turn(person, turn)
        return ended or self._do(made, person, "skip", item=shown.item, turn=turn).id

    def _turn(self, person: str, turn: str) -> tuple[Turn, str]:
        """Return a showing, and the id of what ended it, or its item for this person; "" where it may be ended now."""
        shown = self._standing.turns.get(turn)
        if shown is None or shown.person != person:
            raise TurnOver(f"turn {turn} was not shown to {person}")
        acts = self._standing.acts(person)
        place = acts.seen.get(shown.item)
        return shown, shown.outcome or ("" if place is None else acts.done[place].id)

    def _take_over_leases(self) -> None:
        """Let leases of the last process go on for what they had left by the machine's clock, never for longer than new ones.

        An item has no more of them than people it still wants, the newest: had the clock not been set back since, the older ones
        would have ended.
        """
        now, here, standing = self._now(), self._monotonic(), self._standing
        wanted: dict[str, int] = {}
        for event in reversed(self._log.events):
            if event.kind == "lease" and standing.held[event.item].get(event.person) == event.turn:
                left = min((datetime.fromisoformat(event.until) - now).total_seconds(), self._lease_seconds)
                free = wanted.setdefault(event.item, standing.per_item - len(standing.answers[event.item]))
                if left > 0 and free > 0:
                    self._ends[event.turn] = here + left
                    wanted[event.item] -= 1
