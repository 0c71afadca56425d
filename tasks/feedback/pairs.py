"""Which pairs of samples are labelled: one choice for every source of labels, so that sources differ in what they say alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from posttrain.errors import DataError
from posttrain.feedback.annotators import Quality, gold_preference
from posttrain.feedback.labels import drawn_evenly
from posttrain.feedback.shown_pairs import Pair
from posttrain.graders import Grader, Sample, build_grader
from posttrain.records import Question
from posttrain.settings.feedback import LabelSettings
from tasks.workspace.jsonl import read_rows


def draw_pairs(samples: Path, settings: LabelSettings, *, model_uri: str, seed: int) -> list[Pair]:
    """Return the pairs of samples to be labelled, in a random order, whoever labels them.

    `labels.pairs=random` draws from all pairs of different responses to a question, as a team without answers must;
    `decided` draws from those that gold decides, which takes the answers. Each response is used as evenly as possible, and
    which of a pair is shown first is chance. Equal arguments give equal pairs.

    Args:
        samples: artifact of the stage `sample`.
        settings: how many pairs a question, and among which.
        model_uri: of the model that wrote the samples.
        seed: of the choice, of the order of pairs and of the order shown.

    Raises:
        DataError: there is no pair; or `labels.pairs=decided`, and a question has no answers.
    """
    random = Random(f"{seed}/pairs")
    grader = build_grader("answer")
    pairs = [
        pair
        for row in read_rows(samples / "samples.jsonl")
        for pair in _of_question(row, grader, settings, model_uri=model_uri, random=random)
    ]
    if not pairs:
        wanted = "different responses" if settings.pairs == "random" else "a better and a worse response"
        raise DataError(
            f"no question has two samples to compare ({wanted}; labels.pairs={settings.pairs}), so there is nothing to label. "
            "Sample more (sample.per_prompt), or hotter (sample.temperature)"
        )
    random.shuffle(pairs)
    return pairs


def of_questions(pairs: Sequence[Pair], *, most: int) -> list[Pair]:
    """Return the pairs of the questions that come first, so many at most, in the order given; all where `most` is 0."""
    chosen = set(list(dict.fromkeys(pair.question.id for pair in pairs))[: most or None])
    return [pair for pair in pairs if pair.question.id in chosen]


def _of_question(
    row: Mapping[str, Any], grader: Grader, settings: LabelSettings, *, model_uri: str, random: Random
) -> Iterator[Pair]:
    question = Question.model_validate(row["question"])
    is_finished = dict(row["responses"])
    gold = gold_of(question, is_finished, grader)
    among = list(combinations(is_finished, 2))
    if settings.pairs == "decided":
        if not question.answers:
            raise DataError(
                f"labels.pairs=decided takes pairs of which one response is better, which only answers tell, and question "
                f'{question.id} has none. Take any pairs: SET="labels.pairs=random"'
            )
        among = [(one, other) for one, other in among if gold(one, other) != 0.5]
    for drawn in drawn_evenly(among, most=settings.pairs_per_prompt, random=random):
        first, second = drawn if random.random() < 0.5 else drawn[::-1]
        yield Pair(
            question=question,
            first=first,
            second=second,
            gold=gold(first, second),
            first_model=model_uri,
            second_model=model_uri,
            first_finished=is_finished[first],
            second_finished=is_finished[second],
        )


def gold_of(question: Question, is_finished: Mapping[str, bool], grader: Grader) -> Callable[[str, str], float | None]:
    """Return what tells a noise-free judge's preference between two of the responses; None for a question without answers.

    Args:
        question: that they answer.
        is_finished: of each response, whether it ended by itself.
        grader: tells right answers.
    """
    if not question.answers:
        return lambda first, second: None
    grades = grader.grade([Sample(text, {"id": question.id, "answers": question.answers}) for text in is_finished])
    qualities = {
        text: Quality(is_right=grade.is_right, is_finished=is_finished[text])
        for text, grade in zip(is_finished, grades, strict=True)
    }
    return lambda first, second: gold_preference(qualities[first], qualities[second])
