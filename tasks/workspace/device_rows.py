"""Device batches that were found where memory ran short: kept beside a stage's checkpoints, until the stage is finished."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from posttrain.ops.device_rows import Found, finding

FILE = "device_rows.json"


@contextmanager
def remembering(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let a stage begin with the numbers of rows that it found before it was interrupted, keep new ones, and tell each in a line.

    Args:
        folder: of this stage key's checkpoints.
        say: prints a line for the user.
    """
    found = Found(rows=_kept(folder / FILE))

    def tell(what: str, rows: int) -> None:
        with suppress(OSError):  # to go on matters more than to remember
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FILE).write_text(json.dumps(found.rows), encoding="utf-8")
        rows_now = f"{rows:,} {'row' if rows == 1 else 'rows'}"
        say(f"{what}: memory is short, so {rows_now} at a time from here on; the batch, and what comes out, are the same")

    found.tell = tell
    with finding(found):
        yield


def _kept(file: Path) -> dict[str, int]:
    with suppress(OSError, ValueError, AttributeError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        return {str(what): rows for what, rows in kept.items() if isinstance(rows, int) and rows > 0}
    return {}
