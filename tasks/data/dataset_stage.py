"""`data/<name>/dvc.yaml`: the one DVC stage of an imported dataset, which splits its records into a file a role."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posttrain.data.roles import roles_of
from posttrain.errors import StorageError
from tasks.data.dataset_code import ENTRY, code_of
from tasks.data.dvc_files import damaged
from tasks.data.stages import read_records, split_dataset
from tasks.workspace.disk import cannot_write, sync, try_unlink
from tasks.workspace.paths import Paths

_MODULE = re.compile(r"(posttrain|models|tasks|flows)/.+\.py")
"""A module of ours, of today or of any earlier version."""


def split_code(paths: Paths) -> tuple[str, ...]:
    """Return the modules of ours that the split runs, as paths from the root.

    The one of the settings is among them because it holds the defaults that `params.yaml` leaves out; a change elsewhere in
    it repeats the stage, gives the same bytes, and so the same version.
    """
    return code_of(paths.root, split_dataset)


def stage_text(paths: Paths, name: str, roles: Sequence[str]) -> str:
    """Return the text of `data/<name>/dvc.yaml`."""
    lines = [
        "# Written by make import. The split repeats when the records, the section split of params.yaml or the code change.",
        "stages:",
        "  split:",
        f"    cmd: {_command(name)}",
        "    wdir: ../..",
        "    deps:",
        *(f"      - {dependency}" for dependency in (f"data/{name}/records.jsonl", *split_code(paths))),
        "    params:",
        "      - split",
        "    outs:",
        *(f"      - data/{name}/{role}.jsonl" for role in roles),
    ]
    return "\n".join(lines) + "\n"


def write_stage_again(paths: Paths, name: str) -> None:
    """Write a `dvc.yaml` that was lost, from the kinds of record that the dataset has.

    Raises:
        DataError: a line of the records is none.
        StorageError: the disk refused.
    """
    folder = paths.data / name
    kinds = {record.kind for record in read_records(folder / "records.jsonl")}  # type: ignore[attr-defined]
    _write(folder / "dvc.yaml", stage_text(paths, name, roles_of(kinds)))


def follow_code(paths: Paths, file: Path, stage: Mapping[str, Any]) -> str | None:
    """Let a `dvc.yaml` of an earlier version of posttrain name today's modules; return the line to say, None where it does.

    Nothing else in the file changes: other stages, dependencies that are not modules of ours, comments and layout stay as they
    are. A stage with a command of the user's own is the user's.

    Args:
        paths: of the repository.
        file: the dataset's `dvc.yaml`.
        stage: its stage `split`, as `read_stages` gives it.

    Raises:
        DataError: the stage is written in a way that cannot be corrected here.
        StorageError: the file is read-only, or the disk refused.
    """
    name = file.parent.name
    ours = re.compile(rf"python -m tasks\.[\w.]+ split {re.escape(name)}(?=\s|$)")
    if not ours.search(stage["cmd"]):
        return None
    # What the stage must say: today's command within whatever the user added to it, and today's modules.
    command = ours.sub(lambda _: _command(name), stage["cmd"])
    becomes, added = _following(stage["deps"], split_code(paths))
    deps = [dep for dep in becomes if dep] + added
    if (command, deps) == (stage["cmd"], stage["deps"]):
        return None
    shown = str(file.relative_to(paths.root))
    differing = [dep for dep in stage["deps"] if dep not in deps] or added or ["its command"]
    why = f"was written for other modules of posttrain than today's ({differing[0]}"
    why += f" and {len(differing) - 1} more)" if differing[1:] else ")"
    # A rename would replace a read-only file, which its owner made so on purpose.
    if not file.stat().st_mode & 0o222 or not os.access(file, os.W_OK):
        raise StorageError(
            f"{shown} {why} and is read-only, so it cannot follow. Make it writable, then repeat the command: chmod u+w {shown}"
        )
    with file.open(encoding="utf-8", newline="") as stream:  # ends of lines stay as they are
        text = stream.read()
    corrected = _corrected(text, command=command, becomes=becomes, added=added)
    if not _is_only_that(text, corrected, {"cmd": command, "deps": deps}):
        raise damaged(paths, file, f"it {why}, in a form that cannot be corrected here")
    _write(file, corrected)
    return (
        f"{shown} {why}; it names today's now, and the split runs again, "
        "which makes the same data unless more than names and paths has changed"
    )


def _command(name: str) -> str:
    return f"python -m {ENTRY} split {name}"


def _following(deps: Sequence[str], code: Sequence[str]) -> tuple[list[str | None], list[str]]:
    """Return what each dependency becomes with today's modules, None where it goes, and what is added at the end.

    What is right stays where it is, and so does what is no module of ours; new modules take the places of old ones.
    """
    new = [module for module in code if module not in deps]
    becomes: list[str | None] = []
    for dep in deps:
        is_old = _MODULE.fullmatch(dep) is not None and dep not in code
        becomes.append(dep if not is_old else new.pop(0) if new else None)
    return becomes, new


def _corrected(text: str, *, command: str, becomes: Sequence[str | None], added: Sequence[str]) -> str:
    """Return the text of a `dvc.yaml` with these words put in place of those of its stage `split`; all else stays as it is."""
    import yaml

    stage = _child(_child(yaml.compose(text, Loader=yaml.SafeLoader), "stages"), "split")
    old, deps = _child(stage, "cmd"), _child(stage, "deps")
    edits = [(old.start_mark.index, old.end_mark.index, command)] if old.value != command else []
    if deps.flow_style:
        words = ", ".join(dep for dep in [*becomes, *added] if dep)
        edits.append((deps.start_mark.index, deps.end_mark.index, f"[{words}]"))
    else:
        edits += _line_edits(text, deps.value, becomes=becomes, added=added)
    for start, end, words in sorted(edits, reverse=True):  # from the end, so that positions of what comes before still hold
        text = text[:start] + words + text[end:]
    return text


def _line_edits(
    text: str, items: Sequence[Any], *, becomes: Sequence[str | None], added: Sequence[str]
) -> list[tuple[int, int, str]]:
    """Return (start, end, words) of each change to a list that has an entry a line."""
    edits = []
    for item, dep in zip(items, becomes, strict=True):
        start, end = item.start_mark.index, item.end_mark.index
        if dep is None:
            edits.append((_line_start(text, start), _next_line(text, end), ""))
        elif dep != item.value:
            edits.append((start, end, dep))
    if added:
        last, break_ = items[-1], "\r\n" if "\r\n" in text else "\n"
        at, dash = _next_line(text, last.end_mark.index), text[_line_start(text, last.start_mark.index) : last.start_mark.index]
        lines = "".join(f"{dash}{dep}{break_}" for dep in added)
        edits.append((at, at, lines if text[:at].endswith("\n") else break_ + lines))
    return edits


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _next_line(text: str, at: int) -> int:
    return text.find("\n", at) + 1 or len(text)


def _child(node: Any, name: str) -> Any:
    return next(value for key, value in reversed(node.value) if key.value == name)


def _is_only_that(before: str, after: str, wanted: Mapping[str, Any]) -> bool:
    """Return whether the stage says what it must, and nothing else says anything else: YAML has more forms than we know."""
    import yaml

    told = yaml.safe_load(before)
    told["stages"]["split"] = told["stages"]["split"] | wanted
    try:
        return bool(yaml.safe_load(after) == told)
    except (yaml.YAMLError, RecursionError):
        return False


def _write(file: Path, text: str) -> None:
    """Put a `dvc.yaml` in place as a whole, synced to the disk; a link stays one, and permissions stay as they are."""
    final = file.resolve()
    part = final.with_name(f".{final.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if final.exists():
            shutil.copymode(final, part)
        part.replace(final)
        sync(final.parent)
    except OSError as error:
        raise cannot_write(error, file.parent) from None
    finally:
        try_unlink(part)
