"""A device's batch is halved where memory runs short; what comes out is what would have come out."""

import pytest
import torch

from posttrain.errors import RequestError
from posttrain.ops.device_rows import Found, finding, in_parts, is_out_of_memory, with_rows

ON_A_CPU = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)


def short_above(most, error=torch.OutOfMemoryError):
    """Return work that takes at most so many rows, and a list of what it was asked for."""
    asked = []

    def compute(rows):
        asked.append(rows)
        if rows > most:
            raise error("CUDA out of memory. Tried to allocate 2 GiB")
        return f"{rows} rows"

    return compute, asked


def test_rows_are_halved_until_they_fit_and_the_number_is_kept():
    told, undone = [], []
    compute, asked = short_above(3)
    with finding(Found(tell=lambda *line: told.append(line))) as found:
        assert with_rows("training", 16, compute, undo=lambda: undone.append(True)) == "2 rows"
        assert asked == [16, 8, 4, 2] and len(undone) == 3
        assert told == [("training", 8), ("training", 4), ("training", 2)] and found.rows == {"training": 2}
        asked.clear()
        assert with_rows("training", 16, compute) == "2 rows" and asked == [2], "it begins with what was found"
        assert with_rows("training", 1, compute) == "1 rows", "never more than are asked for"
        with pytest.raises(RequestError):
            with_rows("sampling", 7, short_above(0)[0])
        assert found.rows == {"training": 2, "sampling": 1}, "each kind of work has a number of its own"
    asked.clear()
    assert with_rows("training", 16, compute) == "2 rows" and asked == [16, 8, 4, 2], "nothing is kept outside"


def test_one_row_that_does_not_fit_is_told_with_a_remedy():
    with pytest.raises(RequestError, match=r"^training: even one row at a time does not fit into memory\. .*model\.lora_rank=16"):
        with_rows("training", 4, short_above(0)[0])


def test_a_number_that_decides_something_is_not_lowered():
    compute, asked = short_above(1)
    with pytest.raises(RequestError, match=r"^training: 4 rows at a time do not fit into memory; it decides"):
        with_rows("training", 4, compute, fixed="it decides")
    assert asked == [4]


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory.")])
def test_other_errors_are_not_taken_for_a_lack_of_memory(error):
    def compute(rows):
        raise error

    with pytest.raises(type(error)):
        with_rows("training", 4, compute)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError(ON_A_CPU), RuntimeError("CUDA out of memory. Tried")]
)
def test_what_says_that_memory_is_short(error):
    assert is_out_of_memory(error)


def test_parts_cover_all_rows_once_and_in_order_whatever_fits():
    done, told = [], []

    def compute(part):
        if len(part) > 3 and len(done) >= 4:  # memory runs short in the middle
            raise MemoryError
        done.extend(part)

    with finding(Found(tell=lambda *line: told.append(line))):
        in_parts("scoring", list(range(11)), 4, compute)
    assert done == list(range(11)) and told == [("scoring", 2)]
