"""What an import says at its end: how many rows each part of the dataset has, and a command that works for what is in it."""

from pathlib import Path

from posttrain.records import Question
from tasks.data.dvc import DatasetVersion
from tasks.workspace.jsonl import read_records

FEEDBACK = ("preferences", "ratings", "rankings")
FEWEST_HELD_OUT = 2
"""Held-out questions that a pipeline asks for: one has no interval."""


def sizes(version: DatasetVersion) -> dict[str, int]:
    """Return how many rows each file of the dataset has."""
    return {role: _rows(version.folder / f"{role}.jsonl") for role in version.files}


def summary(version: DatasetVersion) -> str:
    """Return the sizes of the dataset's parts as one line."""
    parts = ", ".join(f"{rows:,} {role.replace('_', ' ')}" for role, rows in sizes(version).items())
    return f"split into {parts} (md5 {version.md5})"


def next_step(version: DatasetVersion) -> str:
    """Return what to say next: a method that learns from these records, or what they lack for any."""
    rows, name = sizes(version), version.name
    check = f"next: make validate DATA={name}"
    if not rows.get("questions"):
        return (
            f"{check}. They are texts without a prompt: the tiny base is pretrained on them, but no method learns from them alone"
        )
    held_out = rows.get("held_out", 0)
    if held_out < FEWEST_HELD_OUT:
        return (
            f"{check}. A pipeline asks for {FEWEST_HELD_OUT} held-out questions at least, and there are {held_out}: "
            f"import more records, or raise split.held_out in params.yaml, then make data DATA={name}"
        )
    has_feedback = any(rows.get(role) for role in FEEDBACK)
    run = f"then make pipeline DATA={name} METHOD="
    if rows.get("demonstrations"):
        if has_feedback:
            return f"{check}, {run}dpo"
        also = " (or METHOD=reft: the answers can be checked)" if _has_answers(version.folder) else ""
        return f"{check}, {run}sft{also}"
    if has_feedback:
        return (
            f"{check}. Methods that learn from ratings and rankings start from SFT, which needs demonstrations: "
            "import a file that holds both (FORMAT=records)"
        )
    if _has_answers(version.folder):
        return f"{check}, {run}ppo"
    return f'{check}, {run}ppo SET="ppo.reward=python:<module>:<function>", since the questions have no answers to check against'


def _rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _has_answers(folder: Path) -> bool:
    """Return whether a training question has an answer; the first that has ends the search."""
    return any(question.answers for question in read_records(folder / "questions.jsonl", Question))
