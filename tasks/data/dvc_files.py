"""The small files in which DVC keeps versions. Of a damaged one is told what is lost, and which command sets it right."""

import re
from pathlib import Path
from typing import Any

from posttrain.errors import DataError
from tasks.workspace.paths import Paths

SCHEMA = "2.0"
"""Of dvc.lock, in DVC 2 and 3."""
WORLD = "world"
RECORDS, LABELS = "records.jsonl", "labels.jsonl"
"""Files of a dataset's folder that DVC tracks by themselves: what was imported, and what people said of responses to its
questions (docs/feedback.md)."""
_MD5 = re.compile("[0-9a-f]{32}")


def read_stages(paths: Paths, file: Path) -> dict[str, Any]:
    """Return the stages of a dvc.yaml; {} where there is no such file.

    Raises:
        DataError: it is damaged.
    """
    content = _mapping(paths, file)
    if content is None:
        return {}
    stages = content.get("stages")
    if not isinstance(stages, dict):
        raise damaged(paths, file, "it has no stages")
    key = WORLD if file.parent == paths.root else "split"
    stage = stages.get(key)
    if stage is None and key == WORLD:  # a project may do without the default world, and have stages of its own
        return stages
    if not isinstance(stage, dict) or not isinstance(stage.get("cmd"), str):
        raise damaged(paths, file, f"its stage {key} has no command")
    for field in ("deps", "outs"):
        names = stage.get(field)
        if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise damaged(paths, file, f"its stage {key} has no list of {field}")
    if odd := [name for name in stage["outs"] if not name.endswith(".jsonl")]:
        raise damaged(paths, file, f"its stage {key} gives {odd[0]}, which is no .jsonl file")
    return stages


def read_lock(paths: Paths, file: Path, key: str) -> dict[str, Any]:
    """Return what a dvc.lock says of one stage; {} where there is no such file, or no such stage in it.

    Raises:
        DataError: it is damaged, or a newer DVC wrote it.
    """
    content = _mapping(paths, file)
    if content is None:
        return {}
    if content.get("schema") != SCHEMA:
        of = (
            f"of schema {content['schema']}, and the DVC installed here reads {SCHEMA}"
            if "schema" in content
            else "without a schema"
        )
        raise damaged(paths, file, f"it is {of}")
    stages = content.get("stages")
    stage = stages.get(key, {}) if isinstance(stages, dict) else None
    if not isinstance(stage, dict) or (stage and not isinstance(stage.get("cmd"), str)):
        raise damaged(paths, file, "it has no stages" if not isinstance(stage, dict) else f"its stage {key} has no command")
    params = stage.get("params", {})
    if not isinstance(params, dict) or not all(isinstance(section, dict) for section in params.values()):
        raise damaged(paths, file, f"the params of its stage {key} are cut off")
    for field in ("deps", "outs"):
        entries = stage.get(field, [])
        if not isinstance(entries, list) or not all(_has_version(entry) for entry in entries):
            raise damaged(paths, file, f"an entry among its {field} has no path or no md5")
    return stage


def version_file(file: Path) -> Path:
    """Return where DVC names the version of a file that it tracks by itself."""
    return file.with_name(f"{file.name}.dvc")


def read_version(paths: Paths, file: Path) -> str | None:
    """Return the md5 that a `.dvc` file names; None where there is no such file.

    Raises:
        DataError: it is damaged.
    """
    content = _mapping(paths, file)
    if content is None:
        return None
    outs = content.get("outs")
    if not isinstance(outs, list) or len(outs) != 1 or not _has_version(outs[0]):
        raise damaged(paths, file, "it names no file with an md5")
    return str(outs[0]["md5"])


def check_files(paths: Paths) -> None:
    """Read every file of DVC's that belongs to a dataset: DVC itself reads them all, whichever dataset it is asked for.

    Raises:
        DataError: one is damaged.
    """
    for folder in (paths.root, *sorted(path.parent for path in paths.data.glob("*/dvc.yaml"))):
        read_stages(paths, folder / "dvc.yaml")
        read_lock(paths, folder / "dvc.lock", WORLD if folder == paths.root else "split")
        if folder != paths.root:
            read_version(paths, version_file(folder / RECORDS))
    for file in sorted(paths.data.glob(f"*/{LABELS}.dvc")):
        read_version(paths, file)


def _mapping(paths: Paths, file: Path) -> dict[str, Any] | None:
    import yaml

    try:  # by the loader in Python: the one in C dies of a file that nests too deeply, and takes the process with it
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(
            f"{_shown(paths, file)} cannot be read: {error.strerror or error}. Correct its permissions: chmod u+r"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise damaged(paths, file, " ".join(str(error).split()).replace(str(paths.root) + "/", "")[:160]) from None
    if content is None:
        raise damaged(paths, file, "it is empty")
    if not isinstance(content, dict):
        raise damaged(paths, file, "it is not a mapping")
    return content


def _has_version(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("size", 0), int):
        return False
    path, md5 = entry.get("path"), entry.get("md5")
    return isinstance(path, str) and isinstance(md5, str) and _MD5.fullmatch(md5) is not None


def damaged(paths: Paths, file: Path, why: str) -> DataError:
    """Return the error that names the file, what is wrong with it, what is lost, and the command that sets it right."""
    return DataError(f"{_shown(paths, file)} is not what DVC writes ({why}). {_remedy(paths, file)}")


def _remedy(paths: Paths, file: Path) -> str:
    """Return what is lost, what is not, and the command that sets it right; the damaged file stays beside the new one."""
    shown, name = _shown(paths, file), file.parent.name
    if file == paths.root / "dvc.yaml":
        return "No data are lost: it only says how data/world is made. Take it from the repository again: git checkout dvc.yaml"
    again = "make data" if file.parent == paths.root else f"make data DATA={name}"
    aside = f"mv {shown} {shown}.damaged && {again}"
    if file.name == "dvc.lock":
        files = "data/world" if file.parent == paths.root else f"data/{name}"
        return (
            f"Lost is the note of which version of {files} lies here; the files themselves are not, and a hand edit is kept "
            f"beside what is made anew. Put it aside and make it again: {aside}"
        )
    records = file.with_name(RECORDS)
    if file.name == "dvc.yaml":
        return f"No data are lost: it only says how {_shown(paths, records)} is split. Put it aside and make it again: {aside}"
    tracked = file.with_suffix("")
    what, is_labels = _shown(paths, tracked), tracked.name == LABELS
    if tracked.exists():
        here = "the labels are here" if is_labels else "the records are here"
        return f"Lost is the note of which version {what} is; {here}. Put it aside: {aside}"
    return (
        f"Lost is the note of which version {what} was, and that file is not here either. "
        f"Restore the note (git checkout {shown}), or {_again(paths, tracked)}"
    )


def lost(paths: Paths, file: Path, *, said: str = "") -> DataError:
    """Return the error that a file which DVC tracks by itself is nowhere, and what to do.

    Args:
        paths: of the repository.
        file: a dataset's records, or people's labels.
        said: what DVC said of it; "" where not even its `.dvc` file is there.
    """
    shown = _shown(paths, file)
    if not said:
        return DataError(
            f"{shown} is not here, nor {shown}.dvc, which names its version. Restore it (git checkout {shown}.dvc), "
            f"or {_again(paths, file)}"
        )
    what, stays = (
        ("labels", "the dataset itself is as it was")
        if file.name == LABELS
        else ("records", "what was split from them is as it was")
    )
    return DataError(
        f"{shown} is not here in the version that {shown}.dvc names, and neither DVC's cache nor its remote has it. Lost are "
        f"these {what}; {stays}. Run dvc push where the {what} are and dvc pull here, or {_again(paths, file)}. DVC said: {said}"
    )


def _again(paths: Paths, file: Path) -> str:
    """Return how else to come by a file."""
    if file.name == LABELS:
        note = _shown(paths, version_file(file))
        return f"restore it from a backup (make restore), or go on without people's labels: mv {note} {note}.lost"
    return f"import the data again: make import FORMAT=… FILE=… NAME={file.parent.name}"


def _shown(paths: Paths, file: Path) -> str:
    return str(file.relative_to(paths.root)) if file.is_relative_to(paths.root) else str(file)
