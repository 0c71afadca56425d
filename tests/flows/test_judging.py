"""Who practises: the tiny base of the world `world` as the judge `base`, and nobody else."""

from pathlib import Path
from typing import Any

import pytest

from flows.judging import is_practising, practise_judge
from posttrain.settings.config import flat, merge
from tasks.workspace.artifacts import Artifact


class Asked:
    """A run that only tells what would be run."""

    data, network = "checked", {"seed": 0}

    def __init__(self, *words: str) -> None:
        self.config = merge({}, words)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def stage(self, name: str, compute: str, **how: Any) -> str:
        self.asked.append((name, how))
        return "the practised judge"


BASE = Artifact("base", "k", str(Path("base")), 0.0, metrics={}, costs={}, digest="b")


def test_the_tiny_base_of_the_world_practises_and_what_decides_the_result_is_in_the_key() -> None:
    run: Any = Asked("judge.practice_steps=7")
    assert practise_judge(run, BASE) == "the practised judge" and is_practising(run.config)
    ((name, how),) = run.asked
    assert name == "judge" and how["base"] is BASE and how["data"] == "checked" and how["seed"] == 0
    assert flat(how["settings"]) == {"judge.practice_steps": 7, "judge.misread_verbs": "", "judge.slip_share": 0.1}


@pytest.mark.parametrize(
    "word",
    ["judge.practice_steps=0", "judge.model=some/model", "judge.backend=openai", "data.name=stories", "model.base=some/model"],
)
def test_any_other_judge_is_taken_as_it_is(word: str) -> None:
    run: Any = Asked(word)
    assert practise_judge(run, BASE) is BASE and not run.asked and not is_practising(run.config)
