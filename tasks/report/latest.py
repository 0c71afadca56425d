"""Files of reports: each is the old one or the whole new one, and those of a report that was never finished are swept."""

from collections.abc import Collection, Mapping
from pathlib import Path

from tasks.workspace.disk import write_whole

LAST = (".json",)
"""The ending of the file that is written after the others: a report that lacks it is half a report."""


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files in order; where the disk refuses one, those written before it, which were not there, are taken away again."""
    new: list[Path] = []
    try:
        for path, content in files.items():
            if not path.exists():
                new.append(path)
            write_whole(path, content)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def sweep(folder: Path, *, processes: Collection[str], pipelines: Collection[str]) -> None:
    """Remove what killed processes left: files that were being written, and reports that lack their last file.

    Args:
        folder: `reports/`.
        processes: names of processes that have ended.
        pipelines: ids of the pipelines that they ran.
    """
    for process in processes:
        for file in folder.glob(f".*.{process}.new"):
            file.unlink(missing_ok=True)
    for pipeline in filter(None, pipelines):
        if not any((folder / f"{pipeline}{ending}").exists() for ending in LAST):
            for file in folder.glob(f"{pipeline}*"):
                file.unlink(missing_ok=True)
