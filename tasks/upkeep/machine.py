"""The machine: room on its disks, the versions of its tools, and its clock."""

import os
import re
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from posttrain.printable import counted
from tasks.services.notes import NAMES, WORKER, running
from tasks.upkeep.findings import Finding, Stores, named, note, well, wrong

LEAST_FREE_MB = 500
"""Below it no command that writes begins (flows/__main__.py)."""
TIGHT_FREE_MB = 2_000
"""Below it somebody should make room. The default run writes about 100 MB; a model of 7 billion parameters 14 GB a version."""
LEAST_INODES, TIGHT_INODES = 1_000, 20_000
"""Files that can still be made: some hundreds a pipeline."""
LATER = 60.0
"""Seconds by which a file may be from the future: clocks of machines that share a disk differ by some."""
APART = 30.0
"""Seconds by which the clocks of a server and of this machine may differ: a cron is told by the minute."""
ANSWER = 5.0
"""Seconds that a server gets to tell its time."""
REMADE = "Set the environment up anew: rm -f .venv/.ready && make setup"


# --- disks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Room:
    """What is free on a disk: MB, and files that can be made (None where the file system does not count them)."""

    megabytes: int
    inodes: int | None


def disks(stores: Stores) -> list[Finding]:
    """Look at room and permissions of every folder that commands write to."""
    paths = stores.paths
    folders = (paths.store, paths.ledger, paths.reports, paths.data, paths.root / ".dvc" / "cache")
    found: list[Finding] = []
    on_disk: dict[int, list[Path]] = {}
    for folder in folders:
        there = next(one for one in (folder, *folder.parents) if one.exists())
        if trouble := _trouble_of_writing(there):
            found.append(
                wrong(
                    f"{folder} cannot be written: {trouble}. Correct the permissions of {there}, or what lies in the folder's "
                    "place; what was there before is unchanged"
                )
            )
        else:
            on_disk.setdefault(there.stat().st_dev, []).append(there)
    rooms = [(places[0], room_of(places[0])) for places in on_disk.values()]
    found += [tight for place, room in rooms if (tight := _trouble_of_room(place, room))]
    free = "; ".join(_free(place, room) for place, room in rooms)
    return found or [well(free)]


def room_of(folder: Path) -> Room:
    """Return what is free where a folder lies."""
    told = os.statvfs(folder)
    return Room(told.f_bavail * told.f_frsize // 2**20, told.f_favail if told.f_files else None)


def _trouble_of_room(place: Path, room: Room) -> Finding | None:
    inodes = room.inodes if room.inodes is not None else TIGHT_INODES
    if room.megabytes >= TIGHT_FREE_MB and inodes >= TIGHT_INODES:
        return None
    remedy = "Make room"
    if room.megabytes < LEAST_FREE_MB or inodes < LEAST_INODES:
        return wrong(f"{_free(place, room)}, so no command that writes begins. {remedy}")
    return note(f"{_free(place, room)}. {remedy} before it is full")


def _free(place: Path, room: Room) -> str:
    files = "" if room.inodes is None else f" and {room.inodes:,} files"
    return f"{place}: {room.megabytes:,} MB{files} are free"


def _trouble_of_writing(folder: Path) -> str:
    """Return why a folder cannot be written, "" where it can; a full disk shows here, and one that is read-only."""
    probe = folder / f".writable-{os.getpid()}"
    try:
        probe.write_bytes(b"x" * 4096)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return ""


# --- tools ------------------------------------------------------------------------------------------------------------


def tools(stores: Stores) -> list[Finding]:
    """Hold the installed packages against what pyproject.toml needs and constraints.txt pins."""
    project, pins = stores.paths.root / "pyproject.toml", stores.paths.root / "constraints.txt"
    if not project.is_file() or not pins.is_file():
        return [note("not looked at: pyproject.toml and constraints.txt, which name the versions, are not in this folder")]
    told = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    found = []
    python = ".".join(map(str, sys.version_info[:3]))
    if python not in Requirement(f"python{told['requires-python']}").specifier:
        found.append(wrong(f"Python is {python}, and posttrain needs {told['requires-python']}. Name one: make setup PYTHON=…"))
    unfit, needed = [], 0
    for requirement in map(Requirement, told["dependencies"]):
        needed += 1
        installed = installed_version(requirement.name)
        if installed is None:
            unfit.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(installed, prereleases=True):
            unfit.append(f"{requirement.name} is {installed}, not {requirement.specifier}")
    if unfit:
        found.append(wrong(f"{named(unfit)} (pyproject.toml). {REMADE}"))
    pinned = list(_pinned(pins.read_text(encoding="utf-8")))
    other = [
        f"{name} {installed} instead of {wanted}"
        for name, wanted in pinned
        if (installed := installed_version(name)) is not None and _public(installed) != _public(wanted)
    ]
    if other:
        found.append(
            note(
                f"{counted(len(other), 'package')} of another version than constraints.txt pins: {named(other)}. Results may "
                f"differ from those of others. {REMADE}"
            )
        )
    return found or [well(f"Python {python}, {needed} dependencies as needed, {len(pinned)} pins kept")]


def installed_version(name: str) -> str | None:
    """Return the version of an installed package; None where it is not installed, or half removed."""
    try:
        return version(name) or None
    except (PackageNotFoundError, KeyError):
        return None


def _pinned(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and version of each pin that holds for this Python."""
    for line in text.splitlines():
        with suppress(InvalidRequirement):
            requirement = Requirement(line.strip())
            exact = re.fullmatch(r"==([^,*]+)", str(requirement.specifier))
            if exact and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                yield requirement.name, exact[1]


def _public(text: str) -> str:
    """Return a version without what a builder added: torch 2.13.0+cu126 is 2.13.0."""
    with suppress(InvalidVersion):
        return Version(text).public
    return text


# --- clocks -----------------------------------------------------------------------------------------------------------


def clocks(stores: Stores) -> list[Finding]:
    """Look for files from the future, and hold the clocks of the servers against ours."""
    found = []
    now = time.time()
    later = sorted(((time_of - now, file) for file, time_of in _dated(stores) if time_of > now + LATER), reverse=True)
    if later:
        ahead, file = later[0]
        found.append(
            note(
                f"{counted(len(later), 'file')} from the future, by up to {ahead / 60:,.0f} min ({_shown(stores, file)}): this "
                "clock is behind, or was ahead when they were written. Compare it with another one (date); where it is right: "
                f"touch {_shown(stores, file)}"
            )
        )
    asked = 0
    for address in sorted(_servers(stores)):
        theirs = time_at(address)
        if theirs is None:
            continue
        asked += 1
        if abs(apart := theirs - time.time()) > APART:
            found.append(
                wrong(
                    f"the clock of the server at {address} is {abs(apart):,.0f} s {'ahead of' if apart > 0 else 'behind'} this "
                    "machine's: schedules start by its time, and runs are dated by both. Let both follow one time server (NTP)"
                )
            )
    return found or [well(f"no file is from the future; {counted(asked, 'server')} asked for the time")]


def _dated(stores: Stores) -> Iterator[tuple[Path, float]]:
    """Yield the files whose times are read by somebody, each with its own."""
    paths = stores.paths
    places = (
        (paths.stages, "*/*/stage.json"),
        (paths.store, "*.json"),
        (paths.store, "*/*.json"),
        (paths.store / "prefect", "prefect.db"),
        (paths.reports, "*.json"),
        (paths.reports, "*/*.json"),
        (paths.ledger, "mlflow.db"),
        (paths.data, "*/*.jsonl"),
    )
    for folder, pattern in places:
        for file in folder.glob(pattern):
            with suppress(OSError):
                yield file, file.stat().st_mtime


def _servers(stores: Stores) -> set[str]:
    services = [running(stores.paths, name) for name in NAMES if name != WORKER]
    addresses = {service.health for service in services if service}
    if api := os.environ.get("PREFECT_API_URL"):
        addresses.add(f"{api.rstrip('/')}/health")
    if stores.config.tracking.uri.startswith("http"):
        addresses.add(f"{stores.config.tracking.uri.rstrip('/')}/health")
    return addresses


def time_at(address: str) -> float | None:
    """Return what a server says the time is, in seconds since 1970; None where it does not answer, or does not say."""
    headers: Any = None
    try:
        with urllib.request.urlopen(address, timeout=ANSWER) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
        error.close()
    except (OSError, ValueError):
        return None
    with suppress(TypeError, ValueError):
        return parsedate_to_datetime(headers["Date"]).timestamp()
    return None


def _shown(stores: Stores, file: Path) -> str:
    return str(file.relative_to(stores.paths.root)) if file.is_relative_to(stores.paths.root) else str(file)
