"""`make doctor`: do the stores agree with each other, with the servers, the machine and its tools? What is safe, FIX=1 mends."""

import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

from posttrain.errors import ContractError, RequestError
from posttrain.printable import counted, printable
from posttrain.settings.config import Config, merge
from tasks.upkeep.findings import Check, Finding, Looked, Severity, Stores, examine, well, wrong
from tasks.workspace.paths import Paths

Say = Callable[[str], None]
Read = Callable[[Paths, Sequence[str]], Config]
"""Reads the settings: params.yaml, and words of the command line."""
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "PREFECT_API_REQUEST_TIMEOUT": "10",
    "PREFECT_CLIENT_MAX_RETRIES": "1",
}
"""Of libraries with servers: they would try for minutes, and a doctor who waits tells nothing."""


def _late(function: str) -> Callable[[Stores], list[Finding]]:
    """Return a look that imports its code when it is asked: a library that cannot be imported takes one check, not all."""

    def look(stores: Stores) -> list[Finding]:
        module, _, name = function.partition(":")
        found: list[Finding] = getattr(import_module(module), name)(stores)
        return found

    return look


CHECKS = tuple(
    Check(name, what, _late(look))
    for name, what, look in (
        ("disk", "room, inodes and permissions of every folder that is written to", "tasks.upkeep.machine:disks"),
        ("tools", "Python and the installed packages against what is needed and pinned", "tasks.upkeep.machine:tools"),
        ("databases", "SQLite files and PostgreSQL: whole, of a known version, not locked", "flows.doctor_servers:databases"),
        ("services", "what make up started: alive, well, and no stale note", "flows.doctor_servers:services"),
        ("ledger", "MLflow's ledger opens", "tasks.upkeep.runs:ledger"),
        (
            "runs",
            "runs of MLflow without a process, models that never became a version",
            "tasks.upkeep.runs:open_runs",
        ),
        ("moves", "promotions and rollbacks that were cut off", "tasks.upkeep.runs:moves"),
        ("aliases", "aliases of versions that are not there, a champion past the history", "tasks.upkeep.runs:aliases"),
        ("versions", "files of every version: there, and with the digest of the registration", "tasks.upkeep.versions:versions"),
        ("stages", "results of stages against their digests", "tasks.upkeep.stages:stages"),
        ("data", "datasets against what DVC has noted, imports that were cut off", "tasks.upkeep.datasets:datasets"),
        (
            "labelling",
            "batches, labels, picks and thumbs that people gave: whole, and no label lost",
            "tasks.upkeep.labelling:labelling",
        ),
        ("keeping", "backups, restores and cleans that were cut off", "flows.doctor_keeping:keeping"),
        ("schedules", "each has a next run at the right time, a worker and a server", "flows.doctor_servers:schedules"),
        ("flow runs", "runs of Prefect that no process executes any more", "flows.doctor_servers:flow_runs"),
        ("clocks", "files from the future, servers whose clock differs", "tasks.upkeep.machine:clocks"),
        ("leftovers", "half-written files and checkpoints of dead processes", "tasks.upkeep.leftovers:leftovers"),
        ("orphans", "results, models and runs that nothing names; only told", "tasks.upkeep.leftovers:orphans"),
    )
)
"""In their order: what is mended first may be what a later one needs."""
SETTINGS = "params.yaml, and the password of the servers where it is said to be"
"""What the check before them looks at."""


def run_doctor(paths: Paths, words: Sequence[str], *, read: Read) -> None:
    """Check everything, print a line a check, and mend what is safe where FIX=1 is said.

    Args:
        paths: of the repository.
        words: fix=1, deep=1, and settings.
        read: the settings.

    Raises:
        RequestError: a word is wrong, or this is no repository's root.
        ContractError: something is wrong, after whatever was mended.
    """
    given = {name: value for name, _, value in (word.partition("=") for word in words) if name in ("fix", "deep")}
    for name, says in (("fix", "mend what is safe"), ("deep", "read every byte")):
        if given.get(name, "") not in ("", "0", "1"):
            raise RequestError(f"{name.upper()} must be 1 ({says}) or 0, got {given[name]}")
    config, trouble = _settings(paths, [word for word in words if word.partition("=")[0] not in given], read)
    trouble += _prepare(paths, config)
    from flows.aftermath import settle

    mends = given.get("fix") == "1"
    stores = Stores(paths, config, is_deep=given.get("deep") == "1", settle=partial(settle, paths))
    looked = []
    for check in (_check_of_settings(trouble), *CHECKS):
        looked.append(examine(check, stores, mends=mends))
        for line in lines_of(looked[-1]):
            print(printable(line), flush=True)
    print(summary(looked))
    if ill := [one for one in looked if one.severity is Severity.WRONG]:
        raise ContractError(verdict(ill, mends=mends))


def _settings(paths: Paths, words: Sequence[str], read: Read) -> tuple[Config, list[str]]:
    """Return the settings, or their defaults where params.yaml cannot be read, and what is wrong with it.

    Raises:
        RequestError: there is no params.yaml, or words of the command line are wrong.
    """
    try:
        return read(paths, words), []
    except RequestError as error:
        if not (paths.root / "params.yaml").exists():
            raise
        return merge({}, words), [f"{error}. Until then the checks take the defaults"]


def _prepare(paths: Paths, config: Config) -> list[str]:
    """Set the environment that the libraries read; return what is wrong with the password of the servers."""
    from flows.environment import prepare

    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    trouble = []
    try:
        prepare(paths, is_tiny=True, password=config.servers.password)
    except RequestError as error:
        trouble = [f"{error}. Until then servers that ask for it are not looked at"]
    if not os.environ.get("PYTHONWARNINGS"):
        warnings.filterwarnings("ignore")
    return trouble


def _check_of_settings(trouble: Sequence[str]) -> Check:
    def look(stores: Stores) -> list[Finding]:
        return [wrong(one) for one in trouble] or [well("params.yaml can be read, and its settings are ones that there are")]

    return Check("settings", SETTINGS, look)


# --- what is printed --------------------------------------------------------------------------------------------------


def lines_of(looked: Looked) -> list[str]:
    """Return what is printed of a check: what was mended, then how things are; its name stands in the first line."""
    marks = {Severity.OK: "ok", Severity.NOTE: "note", Severity.WRONG: "WRONG"}
    rows = [("mended", says) for says in looked.mended] + [(marks[one.severity], one.says) for one in looked.findings]
    names = [looked.check.name, *[""] * (len(rows) - 1)]
    return [f"{mark:<6}  {name:<9}  {' '.join(says.split())}" for name, (mark, says) in zip(names, rows, strict=True)]


def summary(looked: Sequence[Looked]) -> str:
    """Return how many checks found what, in a line."""
    of = {severity: sum(one.severity is severity for one in looked) for severity in Severity}
    mended = sum(len(one.mended) for one in looked)
    parts = [f"{of[Severity.OK]} well", f"{of[Severity.NOTE]} with a note", f"{of[Severity.WRONG]} wrong"]
    told = f"; {counted(mended, 'thing')} mended" if mended else ""
    return f"{counted(len(looked), 'check')}: {', '.join(parts)}{told}"


def verdict(ill: Sequence[Looked], *, mends: bool) -> str:
    """Return the sentence of the exit code."""
    names = ", ".join(one.check.name for one in ill)
    if mends:
        return f"still wrong: {names}. FIX=1 mends only what is safe; the lines above say what to do about the rest"
    can = [one.check.name for one in ill if any(each.fix for each in one.findings if each.severity is Severity.WRONG)]
    remedy = f"make doctor FIX=1 mends what is safe ({', '.join(can)})" if can else "The lines above say what to do"
    return f"wrong: {names}. {remedy}"
