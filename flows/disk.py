"""Whether there is where to write, asked before anything starts."""

import os
import shutil

from posttrain.errors import StorageError
from tasks.workspace.paths import Paths

LEAST_FREE_MB = 500
"""Below it nothing is started: the default run writes about 100 MB, and a full disk half-way helps nobody."""


def check_disk(paths: Paths) -> None:
    """Refuse to start where nothing could be written.

    Raises:
        StorageError: a folder cannot be written, or the disk is nearly full.
    """
    from tasks.workspace.disk import storage_errors

    seen = set()
    ours = (paths.store, paths.ledger, paths.reports)
    others = (folder for folder in (paths.data, paths.root / ".dvc" / "cache") if folder.is_dir())
    for folder in (*ours, *others):  # they may lie on different disks
        with storage_errors("before the start", folder):
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writable-{os.getpid()}"
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
            disk = folder.stat().st_dev
        free = shutil.disk_usage(folder).free // 2**20
        if disk not in seen and free < LEAST_FREE_MB:
            raise StorageError(f"{folder}: {free} MB are free, at least {LEAST_FREE_MB} MB are needed. Make room, then run again")
        seen.add(disk)
