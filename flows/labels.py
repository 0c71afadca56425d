"""`make labels`: how labels of people stand; the end of a batch; labels to and from other tools."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.keep_verbs import Start
from posttrain.errors import RequestError, did_you_mean
from posttrain.printable import counted, printable
from tasks.workspace.paths import Paths

OWN = ("out", "finish", "batch", "force", "export", "import", "file")
"""Words of the verb that are no settings."""
USES = {
    "finish": "finishes a batch: make labels FINISH=1",
    "export": "writes labels to a file: make labels EXPORT=label-studio FILE=labels.json",
    "import": "adds the labels of a file: make labels IMPORT=label-studio FILE=labels.json",
}
"""Words that say what to do; without one the state is shown."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class LabelsRequest:
    """What the words behind the verb ask for.

    Attributes:
        use: one of `USES`, "" to show the state.
        form: name of the form, of an export or an import.
        file: of an export or import.
        out: where the state is written as JSON, "" for the terminal alone.
        batch: that is finished, "" for the newest; or whose pairs are exported, "" for the labels of the dataset.
        is_forced: a file may be replaced, a batch finished although answers are wanting.
    """

    use: str
    form: str = ""
    file: str = ""
    out: str = ""
    batch: str = ""
    is_forced: bool = False


def labels_request(given: Mapping[str, str]) -> LabelsRequest:
    """Return what the words ask for.

    Raises:
        RequestError: words do not go together, one is missing or wrong; nothing has run.
    """
    for name in ("finish", "force"):
        if given.get(name, "") not in ("", "0", "1"):
            raise RequestError(f"{name.upper()} must be 1 or 0, got {given[name]}")
    uses = [name for name in USES if given.get(name, "").strip() not in ("", "0")]
    if len(uses) > 1:
        told = "; ".join(f"{name.upper()} {USES[name]}" for name in uses)
        raise RequestError(f"labels does one thing at a time, got {' and '.join(name.upper() for name in uses)}. {told}")
    use = uses[0] if uses else ""
    if use in ("export", "import") and not given.get("file", "").strip():
        raise RequestError(f"{use.upper()} needs FILE. It {USES[use]}")
    takes = {"": ("out", "force"), "finish": ("batch", "force"), "export": ("file", "batch", "force"), "import": ("file",)}[use]
    for name in ("out", "batch", "file", "force"):
        if given.get(name, "") not in ("", "0") and name not in takes:
            what = f"labels with {use.upper()}" if use else "labels that shows the state"
            rest = f"it takes {' and '.join(word.upper() for word in takes)}"
            raise RequestError(f"{what} takes no {name.upper()}; {rest}")
    return LabelsRequest(
        use=use,
        form=given.get(use, "").strip() if use in ("export", "import") else "",
        file=given.get("file", ""),
        out=given.get("out", ""),
        batch=given.get("batch", "").strip(),
        is_forced=given.get("force") == "1",
    )


def run_labels(paths: Paths, words: Sequence[str], start: Start) -> None:
    """Show the state of a dataset's labels, finish a batch, export or import."""
    given = {name: value for name, _, value in (word.partition("=") for word in words) if name in OWN}
    config = start.configuration([word for word in words if word.partition("=")[0] not in OWN])
    request = labels_request(given)
    from tasks.labelling.exchange.table import form_of

    if request.form:  # before anything is prepared
        form_of(request.form, word=request.use.upper())
    start.prepare(config)
    dataset = config.data.name
    _check_dataset(paths, dataset)
    uses: dict[str, Callable[[Paths, str, LabelsRequest, Say], None]] = {
        "": show_state,
        "finish": finish,
        "export": export_file,
        "import": import_file,
    }
    uses[request.use](paths, dataset, request, start.say)


def _check_dataset(paths: Paths, dataset: str) -> None:
    from tasks.data.dvc import datasets_of

    known = datasets_of(paths)
    if dataset not in known:
        raise RequestError(
            f"there is no dataset {dataset}{did_you_mean(dataset, known)}; datasets are {', '.join(known) or 'none'}. "
            f"Bring one in: make import FORMAT=<format> FILE=<file> NAME={dataset}"
        )


def show_state(paths: Paths, dataset: str, request: LabelsRequest, say: Say) -> None:
    """Print how the labels of a dataset stand; OUT keeps it as JSON."""
    from tasks.labelling.exchange.transfer import place_of
    from tasks.labelling.state import read_state
    from tasks.labelling.terminal import print_state
    from tasks.workspace.disk import storage_errors, write_whole

    target = place_of(paths, request.out, word="OUT", is_forced=request.is_forced) if request.out else None
    state = read_state(paths, dataset)
    print_state(state)
    if target is not None:
        with storage_errors("the state of the labels", target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, json.dumps(state.as_json(), ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass"))
        say(f"as JSON: {_shown(paths, target)}")


def finish(paths: Paths, dataset: str, request: LabelsRequest, say: Say) -> None:
    """Make the labels of a batch part of the dataset, without serving the page."""
    from tasks.labelling.batches import open_batch
    from tasks.labelling.finish import finish_batch

    batch = open_batch(paths, dataset, request.batch)
    done = finish_batch(paths, batch, force=request.is_forced)
    of_them = "of it" if done.labels == 1 else "of them"
    told = f"{counted(done.labels, 'label')}, {done.new:,} {of_them} new; version {done.md5}"
    print(printable(f"batch {batch.name} of {dataset}: {told}"))


def export_file(paths: Paths, dataset: str, request: LabelsRequest, say: Say) -> None:
    """Write labels in a form of another tool."""
    from tasks.labelling.exchange.table import form_of
    from tasks.labelling.exchange.transfer import export_batch, export_labels

    form = form_of(request.form, word="EXPORT")
    if request.batch:
        from tasks.labelling.batches import open_batch

        batch = open_batch(paths, dataset, request.batch)
        out = export_batch(paths, batch, form=form, file=request.file, is_forced=request.is_forced)
        what = f"{counted(out.count, 'pair')} to label, batch {batch.name}"
    else:
        out = export_labels(paths, dataset, form=form, file=request.file, is_forced=request.is_forced)
        what = counted(out.count, "label")
    files = " and ".join(_shown(paths, file) for file in out.files)
    print(printable(f"{what} of {dataset} in {files}: {form.says}"))


def import_file(paths: Paths, dataset: str, request: LabelsRequest, say: Say) -> None:
    """Add the labels of a file to those of the dataset."""
    from tasks.labelling.exchange.table import form_of
    from tasks.labelling.exchange.transfer import import_labels

    got = import_labels(paths, dataset, form=form_of(request.form, word="IMPORT"), file=request.file)
    for note in (*got.version.notes, *(f"{request.file}: {note}" for note in got.notes)):
        say(note)
    were = "was" if got.known == 1 else "were"
    known = f"; {counted(got.known, 'label')} of the file {were} there already" if got.known else ""
    print(printable(f"{dataset}: {counted(len(got.new), 'new label')} of {request.file}{known}; version {got.version.md5}"))


def _shown(paths: Paths, file: Path) -> str:
    return str(file.relative_to(paths.root)) if file.is_relative_to(paths.root) else str(file)
