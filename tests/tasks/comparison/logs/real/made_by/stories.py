"""The questions of `tasks/stories.jsonl` as a task of inspect_ai; a partial score where the answer is near."""

import re

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, PARTIAL, Score, accuracy, scorer, stderr
from inspect_ai.solver import generate


@scorer(metrics=[accuracy(), stderr()])
def last_number():
    async def score(state, target):
        found = re.findall(r"\d+", state.output.completion)
        if not found:
            return Score(value=NOANSWER)
        value = CORRECT if found[-1] == target.text else PARTIAL if target.text in found else INCORRECT
        return Score(value=value, answer=found[-1])

    return score


@task
def stories():
    fields = FieldSpec(input="question", target="answer", id="id")
    return Task(dataset=json_dataset("stories.jsonl", fields), solver=generate(), scorer=last_number())
