"""The stage `label`: who prefers which of two responses, as simulated annotators, the dataset or a store that people filled say.

Each writes `labels.jsonl`, one `posttrain.feedback.labels.Label` a line, and `agreement.json`: how far its annotators agree,
and each of them by name (docs/feedback.md).
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from posttrain.errors import DataError, RequestError
from posttrain.feedback.agreement import agreement_of, as_json
from posttrain.feedback.annotators import annotator_noise, simulated_opinion
from posttrain.feedback.conversions import Feedback, label_of_preference, labels_of_ranking, labels_of_ratings, question_names
from posttrain.feedback.labels import Label, is_equal
from posttrain.records import Preference, Question, Ranking, Rating
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.pairs import Pair, draw_pairs
from tasks.feedback.store import read_store
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import R, has_rows, read_records, read_rows, required, write_rows

LABELS = "labels.jsonl"


def read_labels(folder: Path) -> list[Label]:
    """Return the labels of a finished stage."""
    return list(read_records(folder / LABELS, Label))


def write_labels(out: Path, labels: Sequence[Label]) -> Outcome:
    """Write `labels.jsonl` and `agreement.json`; return the figures of the agreement, and as cost how many labels there are."""
    write_rows(out / LABELS, (each.model_dump(mode="json") for each in labels))
    agreement = agreement_of(labels)
    (out / "agreement.json").write_text(json.dumps(as_json(agreement), indent=1, ensure_ascii=False), encoding="utf-8")
    return Outcome(metrics=agreement.figures(), costs={"labels": len(labels)})


# --- simulated annotators -------------------------------------------------------------------------------------------------


def label_simulated(out: Path, log: Log, *, samples: Path, settings: LabelSettings, model_uri: str, seed: int) -> Outcome:
    """Label pairs of samples by simulated annotators, who know the right answers and get some labels wrong.

    The pairs are those that any other source would be shown (`tasks.feedback.pairs.draw_pairs`). They go round the annotators,
    and `labels.overlap` of them go to a second one as well. `at` stays empty: a run repeated gives the same file.

    Raises:
        DataError: a question has no answers, there is no pair, or not one label names a better response.
    """
    pairs = draw_pairs(samples, settings, model_uri=model_uri, seed=seed)
    noise = annotator_noise(annotators=settings.annotators, flip_rate=settings.flip_rate, seed=seed)
    given = _simulated(pairs, settings, noise=noise, random=Random(f"{seed}/labels"))
    bought = list(islice(given, settings.budget or None))
    labels = [each for each, _ in bought]
    if all(is_equal(each.preference) for each in labels):
        raise DataError(
            f"label: all {len(labels)} labels say that both responses are equally good, so there is nothing to prefer. "
            "Sample more (sample.per_prompt), or train the SFT model to answer some questions right"
        )
    outcome = write_labels(out, labels)
    flipped = sum(is_flipped for _, is_flipped in bought) / len(bought)
    return Outcome(metrics={**outcome.metrics, "flipped_share": flipped}, costs=outcome.costs)


def _simulated(
    pairs: Sequence[Pair], settings: LabelSettings, *, noise: Sequence[float], random: Random
) -> Iterator[tuple[Label, bool]]:
    """Yield each label, and whether the annotator's noise changed it."""
    number = 0
    for place, pair in enumerate(pairs):
        if pair.gold is None:
            raise DataError(
                f"question {pair.question.id} has no answers, and simulated annotators prefer right responses to wrong ones. "
                'Use imported feedback instead: SET="labels.source=dataset"'
            )
        for annotator in _asked(place, settings, random):
            said = simulated_opinion(
                pair.gold,
                lengths=(len(pair.first), len(pair.second)),
                noise=noise[annotator],
                ties=settings.ties,
                random=random,
            )
            yield (
                Label(
                    id=f"{pair.question.id}-{number}",
                    family=pair.question.family,
                    prompt=pair.question.prompt,
                    question=pair.question.id,
                    group=pair.question.id,
                    first=pair.first,
                    second=pair.second,
                    preference=said.preference,
                    annotator=f"simulated-{annotator}",
                    source="simulated",
                    first_model=pair.first_model,
                    second_model=pair.second_model,
                    first_finished=pair.first_finished,
                    second_finished=pair.second_finished,
                    gold=pair.gold,
                ),
                said.is_flipped,
            )
            number += 1


def _asked(place: int, settings: LabelSettings, random: Random) -> tuple[int, ...]:
    """Return who labels a pair: the next annotator, and now and then another one too."""
    first = place % settings.annotators
    if settings.annotators == 1 or random.random() >= settings.overlap:
        return (first,)
    return first, (first + random.randrange(1, settings.annotators)) % settings.annotators


# --- imported feedback ----------------------------------------------------------------------------------------------------


def label_from_dataset(out: Path, log: Log, *, data: Path, settings: LabelSettings) -> Outcome:
    """Take the dataset's preferences, rankings and ratings as labels, in this order, as many as the budget buys.

    A label goes under the question with its prompt, so that what a reward model learns from is known to PPO. Ratings without
    a partner, which make no label, are counted in the metric `unpaired_ratings`.

    Raises:
        DataError: the dataset has no feedback, or it makes no pair.
    """
    preferences = _rows(data, "preferences", Preference)
    rankings = _rows(data, "rankings", Ranking)
    ratings = _rows(data, "ratings", Rating)
    feedback: list[Feedback] = [*preferences, *rankings, *ratings]
    if not feedback:
        raise DataError(
            "the dataset has no preferences, ratings or rankings, which labels.source=dataset takes labels from. "
            "Import data that have them: make import FORMAT=… FILE=… NAME=…"
        )
    questions = question_names(feedback, _rows(data, "questions", Question))
    labels = [label_of_preference(record, questions=questions) for record in preferences]
    for ranking in rankings:
        labels += labels_of_ranking(ranking, questions=questions)
    rated, alone = labels_of_ratings(ratings, questions=questions)
    labels += rated
    if not labels:
        raise DataError(
            f"the dataset's {len(ratings)} ratings make no pair: no annotator rated two different completions of one prompt. "
            "Import preferences or rankings, or ratings of several completions a prompt"
        )
    outcome = write_labels(out, labels[: settings.budget or None])
    return Outcome(metrics={**outcome.metrics, "unpaired_ratings": len(alone)}, costs=outcome.costs)


def _rows(data: Path, role: str, kind: type[R]) -> list[R]:
    path = data / f"{role}.jsonl"
    return list(read_records(path, kind)) if has_rows(path) else []


# --- people ---------------------------------------------------------------------------------------------------------------


def label_from_file(out: Path, log: Log, *, samples: Path | None, data: Path, settings: LabelSettings, model_uri: str) -> Outcome:
    """Take the labels of a store that people filled (docs/feedback.md), as many as the budget buys.

    Args:
        out: where the labels go.
        log: not used: this stage has no curve.
        samples: artifact whose samples the responses must be among; None where they come from elsewhere.
        data: dataset whose questions the labels must name.
        settings: with the store's file.
        model_uri: of the model that wrote the samples, for labels that do not say it.

    Raises:
        RequestError: no file is set, or it cannot be read.
        DataError: a line of it cannot be used; nothing is written then.
    """
    if not settings.file:
        raise RequestError('labels.source=people needs the store of labels: SET="labels.source=people labels.file=…"')
    questions = {question.id: question for question in required(data, "questions", Question, why="labels are given on")}
    responses = None if samples is None else _responses(samples)
    ended = responses or {}
    labels = read_store(Path(settings.file), questions=questions, responses=responses)
    writer = model_uri if samples else ""
    return write_labels(
        out,
        [
            each.model_copy(
                update={
                    "family": questions[each.question].family,
                    "first_model": each.first_model or writer,
                    "second_model": each.second_model or writer,
                    "first_finished": ended.get(each.question, {}).get(each.first, each.first_finished),
                    "second_finished": ended.get(each.question, {}).get(each.second, each.second_finished),
                }
            )
            for each in labels[: settings.budget or None]
        ],
    )


def _responses(samples: Path) -> dict[str, dict[str, bool]]:
    """Return by question its samples, each with whether it ended by itself."""
    return {row["question"]["id"]: dict(row["responses"]) for row in read_rows(samples / "samples.jsonl")}
