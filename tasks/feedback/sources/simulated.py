"""Labels of simulated annotators, who know the right answers and get some labels wrong."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from posttrain.errors import DataError
from posttrain.feedback.annotators import annotator_noise, simulated_opinion
from posttrain.feedback.labels import Label, is_equal
from posttrain.feedback.shown_pairs import Pair
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.agreement import write_labels
from tasks.feedback.pairs import draw_pairs
from tasks.workspace.artifacts import Log, Outcome


def label(out: Path, log: Log, *, samples: Path, settings: LabelSettings, model_uri: str, seed: int) -> Outcome:
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
