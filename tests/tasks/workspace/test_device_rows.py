"""Found device batches outlive an interrupted stage."""

import pytest

from posttrain.ops.device_rows import with_rows
from tasks.workspace.device_rows import FILE, remembering


def short_above(most):
    asked = []

    def compute(rows):
        asked.append(rows)
        if rows > most:
            raise MemoryError
        return rows

    return compute, asked


def test_a_stage_that_is_started_again_begins_with_what_it_found(tmp_path):
    told = []
    compute, asked = short_above(2)
    with pytest.raises(KeyboardInterrupt), remembering(tmp_path / "key", told.append):
        with_rows("training", 8, compute)
        raise KeyboardInterrupt
    assert told[-1] == "training: memory is short, so 2 rows at a time from here on; the batch, and what comes out, are the same"
    assert len(told) == 2
    asked.clear()
    with remembering(tmp_path / "key", told.append):
        assert with_rows("training", 8, compute) == 2
    assert asked == [2] and len(told) == 2


@pytest.mark.parametrize("content", ["{", "[1]", '{"training": "x"}', '{"training": 0}'])
def test_a_file_that_says_nothing_is_passed_over(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with remembering(tmp_path, pytest.fail):
        assert with_rows("training", 8, lambda rows: rows) == 8


def test_where_nothing_can_be_written_work_goes_on(tmp_path):
    (tmp_path / "file").touch()
    told = []
    with remembering(tmp_path / "file" / "key", told.append):
        assert with_rows("training", 8, short_above(4)[0]) == 4
    assert len(told) == 1
