"""The check of new prompts against a dataset: samples in, the statistical part of the record `posttrain.monitor/1` out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from heapq import nsmallest
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posttrain.data.facts import turns
from posttrain.data.near_duplicates import normalised
from posttrain.data.roles import prompt_of
from posttrain.data.split import split
from posttrain.digests import text_number
from posttrain.drift.figures import describe, telling_words
from posttrain.drift.similarity import centred, similarity
from posttrain.drift.two_sample import TwoSample, two_sample_test
from posttrain.drift.verdict import decide, foreign_share
from posttrain.errors import DataError, RequestError
from posttrain.records import Record
from posttrain.settings.data import SplitSettings
from posttrain.settings.monitor import MonitorSettings

TOLD_WORDS = 12
"""Words that are told on either side."""
UNLIKE = 10
"""New prompts that are shown: those most unlike the training prompts."""
LONGEST_SHOWN = 600
"""Characters of a prompt that the record holds."""
BARS = 24
"""Of the histogram of permutations."""
FEWEST_QUESTIONS = 20
"""With answers, nearly equal ones counted once, that a score needs. 20, as `promotion.min_family_questions`: below it an interval
is too wide to say anything."""


@dataclass(frozen=True)
class Sample:
    """Prompts that are compared, and what they were drawn from.

    Attributes:
        records: with different prompts, drawn at random.
        rows: how many there were.
        numbers: of the different prompts among them, but for case, punctuation and spaces.
    """

    records: list[Record]
    rows: int
    numbers: frozenset[int]

    @property
    def texts(self) -> list[str]:
        """The prompts as text: a plain prompt, a document, or the messages of a conversation without their roles."""
        return [text_of(record) for record in self.records]


def text_of(record: Record) -> str:
    """Return the text of a record's prompt; whether it is one message or plain text makes no difference."""
    return "\n".join(turns(prompt_of(record)))


def draw(records: Iterable[Record], *, name: str, most: int, seed: int) -> Sample:
    """Return a sample of the different prompts of records, which stream: the `most` with the smallest hashes.

    Which these are depends on the prompts, `name` and `seed`, and not on their order.
    """
    rows, seen = 0, set()

    def different() -> Iterator[tuple[int, Record]]:
        nonlocal rows
        for record in records:
            rows += 1
            text = normalised(text_of(record))
            number = text_number(text)
            if number not in seen:
                seen.add(number)
                yield text_number(f"{name} {seed}", text), record

    drawn = nsmallest(most, different(), key=lambda one: one[0])
    return Sample([record for _, record in drawn], rows, frozenset(seen))


def refuse_settings(settings: MonitorSettings) -> None:
    """Refuse settings that contradict one another.

    Raises:
        RequestError: so few permutations that no p is at most the level, fewer prompts at most than at least, or a score of too
            few questions.
    """
    needed = ceil(1 / settings.level - 1e-9) - 1
    if settings.permutations < needed:
        raise RequestError(
            f"monitor.permutations must be at least {needed:,} for monitor.level={settings.level:g}, got "
            f"{settings.permutations:,}: p is never below 1 / (permutations + 1)"
        )
    if settings.max_prompts < settings.min_prompts:
        raise RequestError(
            f"monitor.max_prompts ({settings.max_prompts:,}) must be at least monitor.min_prompts ({settings.min_prompts:,})"
        )
    if 0 < settings.score_questions < FEWEST_QUESTIONS:
        raise RequestError(
            f"monitor.score_questions must be at least {FEWEST_QUESTIONS}, or 0 for no score, got {settings.score_questions}: "
            "fewer say nothing of a model"
        )


def check(
    new: Sample, training: Sample, held_out: Sample, *, settings: MonitorSettings, near_duplicate: float, seed: int
) -> dict[str, Any]:
    """Return verdict, tests and figures of new prompts against a dataset.

    Args:
        new: prompts that are checked.
        training: prompts of training.
        held_out: prompts of the dataset that are not trained on: what "nothing differs" looks like here. May be empty.
        settings: level, least effect, permutations, folds and least prompts.
        near_duplicate: similarity from which two prompts are of one family (`split.near_duplicate`).
        seed: of folds and permutations.

    Raises:
        DataError: there are too few different prompts on either side.
    """
    samples = {"training": training, "new": new, "held_out": held_out}
    texts = {name: sample.texts for name, sample in samples.items()}
    of = np.repeat(list(samples), [len(each) for each in texts.values()])
    family = families_in([record for sample in samples.values() for record in sample.records], near_duplicate)
    counts = {name: len(np.unique(family[of == name])) for name in samples}
    _refuse_few(counts, samples, settings.min_prompts)

    # one kernel serves both tests: of new prompts, and of held-out ones
    kernel = similarity([text for each in texts.values() for text in each])
    test = _tested(kernel, of, family, "new", settings=settings, seed=seed)
    is_calibrated = counts["held_out"] >= settings.min_prompts
    calibration = _tested(kernel, of, family, "held_out", settings=settings, seed=seed) if is_calibrated else None
    verdict = decide(test, calibration, level=settings.level, min_auc=settings.min_auc)

    others = {name: texts[name] for name in ("new", "held_out") if texts[name]}
    return {
        "verdict": verdict.why,
        "rule": verdict.rule,
        "is_drift": verdict.is_drift,
        "prompts": {name: _counted(sample, counts[name], training) for name, sample in samples.items()},
        "test": {
            **_as_record(test, settings.level),
            "smallest_auc": verdict.smallest_auc,
            "smallest_share": foreign_share(verdict.smallest_auc),
        },
        "calibration": None if calibration is None else _as_record(calibration, settings.level),
        "permuted": _histogram(test),
        "figures": describe(texts["training"], others),
        "words": [asdict(word) for word in telling_words(texts["training"], texts["new"], most=TOLD_WORDS)],
        "unlike": _unlike(test, texts["new"]),
        "warnings": _warnings(counts, calibration, settings),
    }


def families_in(records: Sequence[Record], near_duplicate: float) -> NDArray[np.int64]:
    """Return the family of each record, (records,); all are one where nothing tells them apart."""
    try:
        return split(records, settings=SplitSettings(near_duplicate=near_duplicate)).family.astype(np.int64)
    except DataError:  # one family, or no record: _refuse_few says it in our words
        return np.zeros(len(records), dtype=np.int64)


def _refuse_few(counts: dict[str, int], samples: dict[str, Sample], least: int) -> None:
    for name, what, remedy in (
        ("new", "the new prompts", "Collect more"),
        ("training", "the training prompts of the dataset", "Import more"),
    ):
        if counts[name] < least:
            raise DataError(
                f"{what} are {samples[name].rows:,} rows with {counts[name]:,} different prompts, near-duplicates counted once, "
                f"and monitor.min_prompts={least} are needed. {remedy}, or lower it and see only large drifts"
            )


def _tested(
    kernel: NDArray[np.float64], of: NDArray[Any], family: NDArray[np.int64], name: str, *, settings: MonitorSettings, seed: int
) -> TwoSample:
    """Test the prompts of one sample against those of training."""
    places = np.flatnonzero((of == "training") | (of == name))
    return two_sample_test(
        centred(kernel[np.ix_(places, places)]),
        of[places] == name,
        family[places],
        folds=settings.folds,
        permutations=settings.permutations,
        seed=seed,
    )


def _counted(sample: Sample, families: int, training: Sample) -> dict[str, Any]:
    different = len(sample.numbers)
    return {
        "rows": sample.rows,
        "different": different,
        "compared": len(sample.records),
        "families": families,
        "in_training": len(sample.numbers & training.numbers) / different if different else None,
    }


def _as_record(test: TwoSample, level: float) -> dict[str, Any]:
    return {
        "auc": test.auc,
        "p": test.p,
        "critical": test.critical(level),
        "sd": test.sd,
        "foreign_share": foreign_share(test.auc),
        "training": test.first,
        "compared": test.second,
    }


def _histogram(test: TwoSample) -> list[dict[str, float]]:
    counts, edges = np.histogram(test.permuted, bins=BARS)
    bars = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return [{"low": low, "high": high, "count": count} for low, high, count in bars]


def _unlike(test: TwoSample, texts: list[str]) -> list[dict[str, Any]]:
    """Return the new prompts with the highest scores; they are the last ones of the test, in their order."""
    scores = test.scores[test.first :]
    best = np.argsort(-scores, kind="stable")[:UNLIKE]
    return [{"prompt": texts[place][:LONGEST_SHOWN], "score": float(scores[place])} for place in best.tolist()]


def _warnings(counts: dict[str, int], calibration: TwoSample | None, settings: MonitorSettings) -> list[str]:
    if calibration is None:
        return [
            f"The dataset has {counts['held_out']:,} different held-out prompts, fewer than monitor.min_prompts "
            f"({settings.min_prompts}): nothing says how far prompts of the same source lie apart"
        ]
    if calibration.p <= settings.level:
        return [
            f"The held-out prompts are told from those of training as well, AUC {calibration.auc:.2f}, p = {calibration.p:.3f}: "
            "the dataset is uneven. New prompts count as drifted only where they are further away than these"
        ]
    return []
