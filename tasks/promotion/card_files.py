"""The card of a version, written beside its files when the version is made."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.tracking.ledger import Ledger
from tasks.tracking.model_files import CARD
from tasks.tracking.registry import WEIGHTS_TAG, digest_of_files
from tasks.tracking.store import plain_errors
from tasks.workspace.disk import write_whole

BEGINNING = "---\n"
"""Of every card of ours; the note that a stage writes beside a prompted model begins with a heading."""


@plain_errors
def write_card(ledger: Ledger, name: str, version: str, card: str) -> bool:
    """Put the card into the version's folder and return whether that was done.

    A version keeps its first card, since its lineage is that of the pipeline which made it. Versions of before cards were, whose
    digest counts every file, stay as they are.

    Raises:
        StorageError: the store cannot be written.
    """
    found = ledger.client.get_model_version(name, version)
    source = Path(ledger.client.get_model_version_download_uri(name, version))
    if not source.is_absolute():
        _send(ledger, str(found.source).removeprefix("models:/"), card)
        return True
    wanted = found.tags.get(WEIGHTS_TAG, "")
    if has_card(source) or (wanted and wanted != digest_of_files(source)):
        return False
    # beside the folder first: a file that a kill leaves in it would count as damage
    beside = source.with_name(CARD)
    write_whole(beside, card.encode())
    beside.replace(source / CARD)
    return True


def has_card(folder: Path) -> bool:
    """Return whether a model's folder has a card of ours."""
    file = folder / CARD
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace").startswith(BEGINNING)


def usage_of(folder: Path) -> str:
    """Return what a stage wrote on how its model is used, "" where it wrote nothing."""
    file = folder / CARD
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return "" if text.startswith(BEGINNING) else text


def _send(ledger: Ledger, model_id: str, card: str) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / CARD).write_text(card, encoding="utf-8")
        ledger.client.log_model_artifacts(model_id, folder)
