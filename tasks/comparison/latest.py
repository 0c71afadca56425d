"""Where comparisons lie: a folder each, whole before it has its name, and links that name the last one."""

import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from posttrain.errors import StorageError
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

LATEST = {"latest.html": "index.html", "latest.md": "comparison.md", "latest.json": "comparison.json"}
"""Links in `reports/compare/`, and the file of a comparison that each names."""


def folder_of(paths: Paths) -> Path:
    """Return where comparisons lie."""
    return paths.reports / "compare"


def write_comparison(paths: Paths, comparison_id: str, write: Callable[[Path], dict[str, Path]]) -> dict[str, Path]:
    """Write a comparison's files beside its place, put them there, and let the links name them; return the files' paths.

    Args:
        paths: of the repository.
        comparison_id: names the folder.
        write: writes the files into the folder that it is given, and returns their paths by name.

    Raises:
        StorageError: the disk refused; what was there before is still there, and the links name it.
    """
    folder = folder_of(paths)
    final = folder / comparison_id
    part = folder / f".{comparison_id}.{Process.current().name}.new"
    try:
        part.mkdir(parents=True)
        files = write(part)
        part.rename(final)
        for link, name in LATEST.items():
            _link(folder / link, Path(comparison_id, name))
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}. Free the disk or its permissions, then give the same command again: "
            "finished runs are taken as they are"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {name: final / file.relative_to(part) for name, file in files.items()}


def _link(link: Path, target: Path) -> None:
    """Let a link name a file, in one step: it is the old link or the new one."""
    new = link.with_name(f".{link.name}.{Process.current().name}.new")
    new.unlink(missing_ok=True)
    try:
        new.symlink_to(target)
        new.replace(link)
    finally:
        new.unlink(missing_ok=True)


def sweep_comparisons(paths: Paths, *, processes: Collection[str]) -> None:
    """Remove what killed processes left half-written."""
    for process in processes:
        for left in folder_of(paths).glob(f".*.{process}.new"):
            if left.is_symlink() or left.is_file():
                with suppress(OSError):
                    left.unlink()
            else:
                shutil.rmtree(left, ignore_errors=True)
