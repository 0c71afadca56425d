"""`data/<name>/dvc.yaml`: the one DVC stage of an imported dataset, which splits its records into a file a role."""

from collections.abc import Sequence

from posttrain.data.roles import roles_of
from tasks.data.stages import cannot_write, read_records
from tasks.workspace.paths import Places

SPLIT_MODULES = (
    "posttrain/prompts.py",
    "posttrain/settings/data.py",
    "posttrain/settings/merging.py",
    "posttrain/settings/renamed.py",
    "posttrain/settings/section.py",
    "posttrain/errors.py",
    "posttrain/records.py",
    "posttrain/data/roles.py",
    "posttrain/data/shared_text.py",
    "posttrain/data/split.py",
    "tasks/data/__main__.py",
    "tasks/data/stages.py",
    "tasks/workspace/paths.py",
)
"""What `python -m tasks.data split` imports of ours. `config.py` is among them because it holds the defaults that
`params.yaml` leaves out; a change elsewhere in it repeats the stage, gives the same bytes, and so the same version."""


def stage_text(name: str, roles: Sequence[str]) -> str:
    """Return the text of `data/<name>/dvc.yaml`."""
    lines = [
        "# Written by make import. The split repeats when the records, the section split of params.yaml or the code change.",
        "stages:",
        "  split:",
        f"    cmd: python -m tasks.data split {name}",
        "    wdir: ../..",
        "    deps:",
        *(f"      - {dependency}" for dependency in (f"data/{name}/records.jsonl", *SPLIT_MODULES)),
        "    params:",
        "      - split",
        "    outs:",
        *(f"      - data/{name}/{role}.jsonl" for role in roles),
    ]
    return "\n".join(lines) + "\n"


def write_stage_again(places: Places, name: str) -> None:
    """Write a `dvc.yaml` that was lost, from the kinds of record that the dataset has.

    Raises:
        DataError: a line of the records is none.
        StorageError: the disk refused.
    """
    folder = places.data / name
    kinds = {record.kind for record in read_records(folder / "records.jsonl")}  # type: ignore[attr-defined]
    part = folder / ".dvc.yaml.part"
    try:
        part.write_text(stage_text(name, roles_of(kinds)), encoding="utf-8")
        part.replace(folder / "dvc.yaml")
    except OSError as error:
        raise cannot_write(error, folder) from None
