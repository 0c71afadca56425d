"""The data stages that DVC runs, `python -m tasks.data world` and `python -m tasks.data split <name>`, and what they share.

Both are deterministic: the same sources and settings give the same bytes. Files are written beside their final place and
renamed, so a kill leaves the old ones.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from posttrain.errors import DataError, RequestError
from posttrain.records import ANY_RECORD, Record
from posttrain.settings.data import PreparedSettings
from posttrain.settings.merging import tree_of, written
from posttrain.settings.renamed import current
from tasks.workspace.disk import writing
from tasks.workspace.paths import Paths

WORLD_ROLES = ("corpus", "demonstrations", "questions", "held_out")


def make_world(paths: Paths) -> None:
    """Write the default world, as `params.yaml` sets it, to `data/world/`."""
    from posttrain.data.world import generate

    with writing(paths.data / "world", WORLD_ROLES) as files:
        for role, record in generate(settings_of(paths).world):
            files[role].write(as_line(record))


def split_dataset(paths: Paths, name: str) -> None:
    """Write the role files of `data/<name>/records.jsonl`, which is read for the families first, then for the rows.

    A record that is left out (`posttrain.data.split.Split`) stands in none of them.

    Raises:
        DataError: a line is broken, or nothing can be held out (see `posttrain.data.split.split`).
    """
    from posttrain.data.roles import in_roles, roles_of
    from posttrain.data.split import split

    source = paths.data / name / "records.jsonl"
    kinds: Counter[str] = Counter()
    parts = split(_Counted(source, kinds), settings=settings_of(paths).split)
    sides = zip(parts.is_held_out.tolist(), parts.is_asked.tolist(), parts.is_left_out.tolist(), strict=True)
    with writing(source.parent, roles_of(kinds)) as files:
        for record, (is_held_out, is_asked, is_left_out) in zip(read_records(source), sides, strict=True):
            if is_left_out:
                continue
            for role, made in in_roles(
                record, is_held_out=is_held_out, is_asked=is_asked, has_demonstrations="demonstration" in kinds
            ):
                files[role].write(as_line(made))


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a JSON-lines file of ours, one line in memory at a time.

    Raises:
        RequestError: there is no such file.
        DataError: a line is not a record.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise RequestError(f"there is no file {path}. Import the data (make import) or fetch it (dvc pull)") from None
    with stream:
        for number, line in enumerate(stream, 1):
            try:
                yield ANY_RECORD.validate_json(line)
            except ValidationError as error:
                problem = error.errors()[0]
                field = ".".join(str(part) for part in problem["loc"][1:]) or "record"
                raise DataError(
                    f"{path} line {number}: {field}: {problem['msg'].lower()}. Correct or drop the line, or import again"
                ) from None


def as_line(record: Record) -> bytes:
    """Return a record as a line of JSON."""
    return record.model_dump_json(exclude_none=True).encode() + b"\n"


def settings_of(paths: Paths) -> PreparedSettings:
    """Return the sections of `params.yaml` that data depend on.

    Raises:
        RequestError: it is not YAML, or a setting in it is unknown or out of range.
    """
    params = params_of(paths)
    sections = PreparedSettings.model_fields
    asked = written({name: params[name] for name in sections if name in params}, (), sections=sections)
    return tree_of(PreparedSettings, current(asked)[0])


def params_of(paths: Paths) -> dict[str, object]:
    """Return `params.yaml` as a nested mapping; {} where there is none.

    Raises:
        RequestError: it is not a YAML mapping.
    """
    import yaml

    path = paths.root / "params.yaml"
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"params.yaml is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict):
        raise RequestError(f"params.yaml must hold sections and their settings, got {params!r}")
    return params


@dataclass(frozen=True)
class _Counted:
    """The records of a file, read anew whenever they are iterated over, and how many there are of each kind."""

    path: Path
    kinds: Counter[str]

    def __iter__(self) -> Iterator[Record]:
        self.kinds.clear()
        for record in read_records(self.path):
            self.kinds[record.kind] += 1  # type: ignore[attr-defined]
            yield record
