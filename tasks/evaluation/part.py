"""The stage `part`: which of the held-out questions a pipeline is measured on, where that is not all of them."""

import json
from pathlib import Path

from posttrain.data.parts import part_of
from posttrain.records import Question
from posttrain.settings.evaluation import EvaluateSettings
from tasks.evaluation.evaluate import PART
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import required


def part(out: Path, log: Log, *, data: Path, settings: EvaluateSettings) -> Outcome:
    """Write the ids of the questions of `evaluate.part`, in their order.

    It is a stage of its own so that how near-duplicates are found is in no evaluation's key.

    Args:
        out: where to write.
        log: unused.
        data: the validated dataset.
        settings: which part, and how large it is.

    Raises:
        DataError: the questions cannot be parted, or the part has fewer than two.
    """
    questions = required(data, "held_out", Question, why="models are evaluated on")
    found = part_of(questions, settings.part, share=settings.development_share)
    (out / PART).write_text(json.dumps([one.id for one in found], indent=0), encoding="utf-8")
    return Outcome(metrics={"questions": len(found), "held_out": len(questions)})
