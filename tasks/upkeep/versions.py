"""The files of registered versions: are they there, and are they those that were registered."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from posttrain.printable import counted
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import WEIGHTS_TAG, local_path, trouble_of
from tasks.upkeep.findings import Finding, Stores, well, wrong
from tasks.upkeep.heads import size_of, trouble_of_head
from tasks.upkeep.runs import registered_models, versions_of


@dataclass(frozen=True)
class Held:
    """A version, and where its files lie here.

    Attributes:
        name: of the registered model.
        version: its number.
        wanted: the digest that it was registered with.
        aliases: that name it.
        folder: of its files; None where only the server has them.
    """

    name: str
    version: str
    wanted: str
    aliases: tuple[str, ...]
    folder: Path | None

    @property
    def uri(self) -> str:
        """What names it."""
        return f"models:/{self.name}/{self.version}"

    @property
    def files(self) -> list[Path]:
        """Its files, as they lie there now."""
        return [file for file in self.folder.iterdir() if file.is_file()] if self.folder and self.folder.is_dir() else []


def versions(stores: Stores) -> list[Finding]:
    """Look at the files of every version: those with an alias first, then the newest."""
    opened, budget = stores.ledger(), stores.budget()
    held = sorted(_held(opened), key=lambda one: (not one.aliases, -int(one.version)))
    found, whole = [], 0
    for one in held:
        if one.folder is None:
            continue
        is_read = budget.takes(size_of(one.files))
        whole += is_read
        if trouble := _trouble(one, is_read=is_read):
            found.append(_told(opened, one, trouble))
    return found or [well(_seen(held, whole))]


def _held(opened: Ledger) -> list[Held]:
    found = []
    for name in registered_models(opened):
        names: dict[str, list[str]] = {}
        for alias, version in sorted(opened.client.get_registered_model(name).aliases.items()):
            names.setdefault(str(version), []).append(alias)
        for version in versions_of(opened, name):
            number = str(version.version)
            folder = _folder(opened, name, number)
            found.append(Held(name, number, version.tags.get(WEIGHTS_TAG, ""), tuple(names.get(number, ())), folder))
    return found


def _folder(opened: Ledger, name: str, number: str) -> Path | None:
    source = Path(opened.client.get_model_version_download_uri(name, number))
    if source.is_absolute():
        return source
    copy = opened.paths.store / "models" / name / number  # of a server's version, where it was fetched
    return copy if copy.exists() else None


def _trouble(one: Held, *, is_read: bool) -> str:
    """Return what is wrong with a version's files, "" where nothing is."""
    assert one.folder is not None
    if trouble := trouble_of(one.folder, one.wanted if is_read else ""):
        return trouble
    return next((f"{file} {trouble}" for file in sorted(one.files) if (trouble := trouble_of_head(file))), "")


def _told(opened: Ledger, one: Held, trouble: str) -> Finding:
    whose = f" ({' and '.join(one.aliases)})" if one.aliases else ""
    remedy = "FIX=1 repairs it where a stage here, or the server, has the same weights; else restore that folder from a backup"
    return wrong(f"{one.uri}{whose} does not load: {trouble}. {remedy}", partial(_repair, opened, one))


def _repair(opened: Ledger, one: Held) -> str:
    lines: list[str] = []
    local_path(opened, one.uri, say=lines.append)
    return "; ".join(lines)


def _seen(held: list[Held], whole: int) -> str:
    here = [one for one in held if one.folder is not None]
    told = f"{counted(len(held), 'version')}: the files are there"
    if whole < len(here):
        told += f"; {whole:,} read whole, {len(here) - whole:,} by length and head (DEEP=1 reads all)"
    elif here:
        told += ", each with the digest that it was registered with"
    if len(here) < len(held):
        told += f"; {len(held) - len(here):,} lie on the server only, which were not fetched"
    return told
