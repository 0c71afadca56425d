"""What lies in a dataset's folder, counted as the rules want it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.advice.situation import LONG_ANSWER, Situation, kind_of_answer, percentile
from posttrain.data.near_duplicates import families, remember, rows_a_band
from posttrain.feedback.agreement import agreement_of
from posttrain.feedback.conversions import Feedback, label_of_preference, labels_of_ranking, labels_of_ratings, question_names
from posttrain.feedback.labels import Label
from posttrain.records import Demonstration, Preference, Prompt, Question, Ranking, Rating
from tasks.workspace.jsonl import R, has_rows, read_records

MOST_ROWS = 20_000
"""Rows whose lengths and likeness are looked at: the first ones of a larger file."""


def look(
    folder: Path,
    situation: Situation,
    *,
    count_tokens: Callable[[list[str]], list[int]],
    prompt_text: Callable[[Prompt], str],
    near_duplicate: float,
) -> Situation:
    """Return the situation with the facts of a validated dataset.

    Args:
        folder: that holds `<role>.jsonl`.
        situation: what is known besides.
        count_tokens: tokens of each text in the base in use.
        prompt_text: the text that stands before a completion.
        near_duplicate: `split.near_duplicate`: likeness from which two prompts are nearly equal.

    Raises:
        DataError: feedback that no label can be made of.
    """
    questions = _rows(folder, "questions", Question)
    demonstrations = _rows(folder, "demonstrations", Demonstration)
    held_out = _rows(folder, "held_out", Question)

    def tokens(prompts: Sequence[Prompt]) -> list[int]:
        return count_tokens([prompt_text(prompt) for prompt in prompts]) if prompts else []

    asked = [one.prompt for one in islice(questions, MOST_ROWS)]
    shown = list(islice(demonstrations, MOST_ROWS))
    of_prompts = tokens(asked)
    of_responses = count_tokens([one.completion for one in shown]) if shown else []
    whole = [prompt + response for prompt, response in zip(tokens([one.prompt for one in shown]), of_responses, strict=True)]
    limit = situation.asked.max_new_tokens
    return replace(
        _counted(folder, situation, questions=questions, demonstrations=demonstrations, held_out=held_out),
        prompt_tokens=percentile(of_prompts, 0.95),
        response_tokens=sum(of_responses) / len(of_responses) if of_responses else 0.0,
        long_response_tokens=percentile(of_responses, 0.95),
        # a response ends with EOS, which takes one of the tokens that it may have
        beyond_limit=sum(length >= limit for length in of_responses) / len(of_responses) if of_responses else 0.0,
        shortest_shot=min(whole, default=0),
        longest_question=max(tokens([one.prompt for one in held_out]), default=0),
        near_duplicates=repeated_share(questions[:MOST_ROWS], threshold=near_duplicate),
    )


def counted(folder: Path, situation: Situation) -> Situation:
    """Return the situation with how many rows there are, their answers and their labels: what makes a method impossible.

    Raises:
        DataError: feedback that no label can be made of.
        ValidationError: a row is no record.
    """
    questions, held_out = (_rows(folder, role, Question) for role in ("questions", "held_out"))
    demonstrations = _rows(folder, "demonstrations", Demonstration)
    return _counted(folder, situation, questions=questions, demonstrations=demonstrations, held_out=held_out)


def _counted(
    folder: Path,
    situation: Situation,
    *,
    questions: Sequence[Question],
    demonstrations: Sequence[Demonstration],
    held_out: Sequence[Question],
) -> Situation:
    return replace(
        situation,
        demonstrations=len(demonstrations),
        questions=len(questions),
        **_answers(questions),
        held_out=len(held_out),
        held_out_answered=sum(bool(one.answers) for one in held_out),
        **_feedback(folder, questions),
    )


def repeated_share(questions: Sequence[Question], *, threshold: float) -> float:
    """Return the share of the questions that equal or nearly equal an earlier one, whatever family they name."""
    if not questions:
        return 0.0
    nameless = [one.model_copy(update={"family": None}) for one in questions]
    found = families(remember(nameless, rows_a_band=rows_a_band(threshold)), threshold=threshold)
    return 1 - len(np.unique(found)) / len(questions)


def _answers(questions: Sequence[Question]) -> dict[str, Any]:
    answers = [one.answers[0] for one in questions if one.answers]
    kinds = [kind_of_answer(answer) for answer in answers]
    is_prose = [kind == "text" and len(answer.split()) > LONG_ANSWER for kind, answer in zip(kinds, answers, strict=True)]
    return {
        "answered": len(answers),
        "kinds": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "long_answers": sum(is_prose),
    }


def _feedback(folder: Path, questions: Sequence[Question]) -> dict[str, Any]:
    preferences = _rows(folder, "preferences", Preference)
    rankings = _rows(folder, "rankings", Ranking)
    ratings = _rows(folder, "ratings", Rating)
    labels = labels_of_dataset(preferences, rankings, ratings, questions)
    found: dict[str, Any] = {
        "pairs": len(preferences),
        "rankings": len(rankings),
        "ratings": len(ratings),
        "labels": len(labels),
    }
    if labels:
        agreement = agreement_of(labels)
        found |= {
            "annotators": len(agreement.annotators),
            "shared_pairs": agreement.shared_pairs,
            "alpha": agreement.alpha,
        }
    return found


def labels_of_dataset(
    preferences: Sequence[Preference], rankings: Sequence[Ranking], ratings: Sequence[Rating], questions: Sequence[Question]
) -> list[Label]:
    """Return the labels that `labels.source=dataset` would make of a dataset's feedback."""
    feedback: list[Feedback] = [*preferences, *rankings, *ratings]
    names = question_names(feedback, questions)
    labels = [label_of_preference(record, questions=names) for record in preferences]
    for ranking in rankings:
        labels += labels_of_ranking(ranking, questions=names)
    return labels + labels_of_ratings(ratings, questions=names)[0]


def _rows(folder: Path, role: str, kind: type[R]) -> list[R]:
    path = folder / f"{role}.jsonl"
    return list(_read(path, kind)) if has_rows(path) else []


def _read(path: Path, kind: type[R]) -> Iterator[R]:
    return read_records(path, kind)
