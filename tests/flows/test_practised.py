"""Who practises: the tiny base of the world `world` as the judge `base`, and nobody else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.feedback import practised
from posttrain.settings.config import merge


class Course:
    """A course that only tells what would be run."""

    data, checked = Path("data"), "checked"

    def __init__(self, *words: str) -> None:
        self.config = merge({}, words)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def run(self, name: str, compute: str, **how: Any) -> str:
        self.asked.append((name, how))
        return "the practised judge"


BASE = SimpleNamespace(path=Path("base"))


def test_the_tiny_base_of_the_world_practises_and_what_decides_the_result_is_in_the_key() -> None:
    course = Course("judge.practice_steps=7")
    assert practised(course, BASE) == "the practised judge"
    ((name, how),) = course.asked
    assert name == "judge" and how["base"] == BASE.path
    assert how["reads"] == {"data": "checked", "base": BASE}
    assert how["also"] == {"judge.practice_steps": 7, "judge.misread_verbs": "", "judge.slip_share": 0.1}


@pytest.mark.parametrize(
    "word",
    ["judge.practice_steps=0", "judge.model=some/model", "judge.backend=openai", "data.name=stories", "model.base=some/model"],
)
def test_any_other_judge_is_taken_as_it_is(word: str) -> None:
    course = Course(word)
    assert practised(course, BASE) is BASE and not course.asked
