"""How many rows a device takes at once: as many as are asked for, or as many as fit into its memory.

Whatever hands rows to a network does so through `in_parts` or `with_rows`. Where memory runs short there, the number is halved
and the same work is done again, so that what comes out is the same up to the order of sums. A number that was found holds for
all that follows in the stage; a stage that is started again begins with it (tasks/workspace/device_rows.py). What was found is
kept in a context variable and not handed down: every function between a stage and a forward pass would have to carry it.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from posttrain.errors import RequestError

Row = TypeVar("Row")
Result = TypeVar("Result")

SHARED = (
    "several processes share the work, and all must do as much, so it is not lowered by itself. Lower device_batch_size of the "
    "method"
)
"""Why a number of rows is fixed where training runs in several processes."""
REMEDY = (
    "What takes less: a shorter model.context or max_new_tokens, adapters (model.lora_rank=16), model.gradient_checkpointing=on, "
    "a smaller base, ppo.critic=shared where there is a critic, or a machine with more memory"
)


@dataclass
class Found:
    """What was found in a stage.

    Attributes:
        rows: most rows at once, by what is done with them; nothing for what has always fitted.
        tell: is told what is done and how many rows fit, each time that changes.
    """

    rows: dict[str, int] = field(default_factory=dict)
    tell: Callable[[str, int], None] = lambda what, rows: None


_found: ContextVar[Found | None] = ContextVar("found", default=None)


@contextmanager
def finding(found: Found) -> Iterator[Found]:
    """Let everything within the block begin with the numbers in `found`, and write into it those that are found."""
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def with_rows(
    what: str, most: int, compute: Callable[[int], Result], *, undo: Callable[[], None] = lambda: None, fixed: str = ""
) -> Result:
    """Return what `compute` gives, called with the most rows that a device may take at once.

    Args:
        what: is done with the rows, for the line that tells it: "training".
        most: rows, where memory does not run short.
        compute: does all of it, with that many rows at a time; it is called again where memory ran short.
        undo: takes back what an interrupted call has left, before the next one.
        fixed: why the number is not halved by itself, and what to do; "" where it may be.

    Raises:
        RequestError: a single row does not fit, or the number is fixed.
    """
    found = _found.get() or Found()
    while True:
        rows = max(1, min(most, found.rows.get(what, most)))
        try:
            return compute(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if fixed:
                raise RequestError(f"{what}: {rows:,} rows at a time do not fit into memory; {fixed}") from error
            if rows == 1:
                raise RequestError(f"{what}: even one row at a time does not fit into memory. {REMEDY}") from error
        # behind the block, where nothing of the failed call is held any more
        undo()
        _give_back()
        found.rows[what] = rows // 2
        found.tell(what, rows // 2)


def in_parts(what: str, rows: Sequence[Row], most: int, compute: Callable[[Sequence[Row]], None]) -> None:
    """Call `compute` with all rows, in order, in parts of at most `most`, or of as many as fit.

    Args:
        what: as `with_rows` has it.
        rows: all of them.
        most: rows a part, where memory does not run short.
        compute: does one part; where memory runs short within it, it must have left nothing.

    Raises:
        RequestError: a single row does not fit.
    """
    start = 0

    def part(size: int) -> int:
        compute(rows[start : start + size])
        return size

    while start < len(rows):
        start += with_rows(what, min(most, len(rows) - start), part)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a GPU's, or the machine's, memory was short; accelerate knows the texts of others."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )


def _give_back() -> None:
    """Let go of what a failed call held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
