"""The words of `make grade`."""

from collections.abc import Mapping

from posttrain.errors import RequestError
from tasks.workspace.paths import Paths


def grade(paths: Paths, given: Mapping[str, str]) -> None:
    """Grade a file of completions without any model: GRADER and FILE, OUT and FORCE.

    Raises:
        RequestError: a word is missing, or FORCE is neither 0 nor 1.
    """
    for name in ("grader", "file"):
        if not given.get(name):
            raise RequestError(f"grade needs {name.upper()}: make grade GRADER=answer FILE=samples.jsonl")
    from tasks.rewards.grade import grade_file, print_report

    if given.get("force", "") not in ("", "0", "1"):
        raise RequestError(f"FORCE must be 1 (replace the file that OUT names) or 0, got {given['force']}")
    is_forced = given.get("force") == "1"
    print_report(grade_file(paths, grader=given["grader"], file=given["file"], out=given.get("out", ""), force=is_forced))
