"""`make import`: a file becomes a dataset, which DVC then knows."""

from collections.abc import Callable, Sequence

from flows.disk import check_disk
from flows.params import no_repository
from posttrain.errors import RequestError
from tasks.workspace.paths import Paths


def import_dataset(paths: Paths, words: Sequence[str], prepare: Callable[[], None], say: Callable[[str], None]) -> None:
    """Turn a file into a dataset: FILE and NAME, and FORMAT, MAP, HELD_OUT and SKIP_BAD where they are needed.

    Raises:
        PosttrainError: a word is missing or wrong, or the file cannot be read as it is.
    """
    given = dict(word.partition("=")[::2] for word in words)
    for name in ("file", "name"):
        if not given.get(name):
            raise RequestError(f"import needs {name.upper()}: make import FORMAT=gsm8k FILE=train.jsonl NAME=gsm8k")
    if given.get("skip_bad", "") not in ("", "0", "1"):
        raise RequestError(f"SKIP_BAD must be 1 (put rows that cannot be read aside) or 0, got {given['skip_bad']}")
    if not (paths.root / "params.yaml").exists():  # before any folder is made
        raise no_repository(paths)
    check_disk(paths)
    prepare()
    from tasks.data.dvc import bring_up_to_date
    from tasks.data.importing import import_file
    from tasks.data.next_step import next_step, summary

    how = {"format": given.get("format", ""), "file": given["file"], "name": given["name"], "columns": given.get("map", "")}
    report = import_file(paths, **how, held_out=given.get("held_out", ""), skip_bad=given.get("skip_bad") == "1")
    for note in report.notes:
        say(note)
    version = bring_up_to_date(paths, report.name)
    counts = ", ".join(f"{count:,} {kind}s" for kind, count in report.kinds.items())
    print(f"{report.name}: {counts} in {report.path}, {summary(version)}")
    print(next_step(version))
