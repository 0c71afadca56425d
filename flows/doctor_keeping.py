"""What a killed restore or clean left. Every other command settles it when it begins; the doctor tells it first."""

from functools import partial

from tasks.keeping.exchange import CLEANING, DONE, DRAFT, LOCK, PLAN, STAGING, UNFINISHED, notes_folder, settle
from tasks.keeping.removal import empty_trash, size_of, trash
from tasks.upkeep.findings import Finding, Stores, megabytes, note, well, wrong
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths


def keeping(stores: Stores) -> list[Finding]:
    """Look for a restore that was stopped, and for what a clean had taken out of its place and not removed."""
    paths = stores.paths
    folder = notes_folder(paths)
    if not folder.exists():
        return [well("no backup, restore or clean was cut off")]
    with exclusive(paths, LOCK, wait=False) as is_free:
        if not is_free:
            return [well("a backup, restore or clean is at work, so nothing was looked at")]
        found = []
        if (folder / PLAN).exists():
            told = "a restore was stopped while its files were put in place"
            found = [wrong(f"{told}. FIX=1 completes it, and so does any other command", partial(_settle, paths))]
        elif any((folder / name).exists() for name in (DRAFT, DONE, CLEANING)) or any(folder.glob(UNFINISHED)):
            what = "a clean" if (folder / CLEANING).exists() else "a restore"
            told = f"{what} was stopped before its end. Nothing is lost by it; FIX=1 takes away what it left (names {STAGING}*)"
            found = [note(told, partial(_settle, paths))]
        if left := size_of(trash(paths)) if any(trash(paths).glob("*")) else 0:
            told = f"a clean had taken {megabytes(left)} out of their place when it was stopped. FIX=1 removes them"
            found.append(note(told, partial(_empty, paths)))
        return found or [well("no backup, restore or clean was cut off")]


def _settle(paths: Paths) -> str:
    lines: list[str] = []
    settle(paths, lines.append)
    return "; ".join(lines) or "what was left is taken away"


def _empty(paths: Paths) -> str:
    with exclusive(paths, LOCK, wait=False) as is_free:
        if not is_free:
            return ""
        empty_trash(paths)
    return "what a clean had taken out of its place is removed"
