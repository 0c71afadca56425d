"""The stage `second_opinion`: what somebody else says of the pairs that a judge labelled; nothing is trained on it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from posttrain.feedback.annotators import annotator_noise, simulated_opinion
from posttrain.feedback.bias import agreement_between
from posttrain.feedback.labels import Label, by_pair, is_equal
from posttrain.settings.feedback import LabelSettings
from posttrain.statistics.figures import flattened
from tasks.feedback.agreement import write_labels
from tasks.feedback.given import GivenLabels
from tasks.feedback.labels import read_labels
from tasks.feedback.sources import people as store
from tasks.workspace.artifacts import Log, Outcome


def give(
    out: Path,
    log: Log,
    *,
    labels: Path,
    samples: Path,
    data: Path,
    people: GivenLabels | None,
    settings: LabelSettings,
    model_uri: str,
    seed: int,
) -> Outcome:
    """Write the labels of people, or else of simulated annotators, and how often the judge decides as they do.

    People's are those of a store (`labels.file`), or else those of the dataset, where two questions at least have a pair that the
    judge labelled too. Simulated annotators label every pair that gold decides, each once, and flip as many as
    `labels.flip_rate` says. Metrics: `labels`, and as far as it is defined the share of common pairs on which both decide alike,
    with its interval: `people_agreement` or `simulated_agreement`.

    Args:
        out: the artifact.
        log: for curves, of which there are none.
        labels: artifact of the judge's labels.
        samples: artifact of what the judge compared.
        data: dataset whose questions people's labels must name.
        people: what people said of responses to the dataset's questions; None where they said nothing.
        settings: of labels.
        model_uri: of the model that wrote the samples.
        seed: of the simulated annotators.

    Raises:
        RequestError: people's labels cannot be read.
        DataError: one of them cannot be used.
    """
    judged = read_labels(labels)
    of_people = [] if settings.file else _of_judged_pairs(people, judged)
    who = "people" if settings.file or of_people else "simulated"
    if settings.file:
        store.label(out, log, samples=samples, data=data, settings=settings, model_uri=model_uri)
    else:
        write_labels(out, of_people or list(_simulated(judged, settings, seed)))
    others = read_labels(out)
    agreement = agreement_between(judged, others)
    return Outcome(metrics={"labels": len(others), **flattened({f"{who}_agreement": agreement})})


def _of_judged_pairs(people: GivenLabels | None, judged: Sequence[Label]) -> list[Label]:
    """Return what people said of pairs that the judge labelled; [] where it says nothing of their agreement.

    Where gold decides no pair there are no simulated annotators either: then whatever people said is returned.
    """
    if people is None:
        return []
    pairs = by_pair(judged)
    common = [label for pair, given in by_pair(people.labels).items() if pair in pairs for label, _ in given]
    if agreement_between(judged, common):
        return common
    is_decided = any(label.gold is not None and not is_equal(label.gold) for label in judged)
    return [] if is_decided else list(people.labels)


def _simulated(labels: Sequence[Label], settings: LabelSettings, seed: int) -> Iterator[Label]:
    """Yield what simulated annotators, who go round, say of the pairs of which one response is better."""
    random = Random(f"{seed}/second opinion")
    noise = annotator_noise(annotators=settings.annotators, flip_rate=settings.flip_rate, seed=seed)
    decided = [(label, label.gold) for label in labels if label.gold is not None and not is_equal(label.gold)]
    for place, (label, gold) in enumerate(decided):
        annotator = place % settings.annotators
        said = simulated_opinion(
            gold,
            lengths=(len(label.first), len(label.second)),
            noise=noise[annotator],
            ties=settings.ties,
            random=random,
        )
        yield label.model_copy(
            update={
                "id": f"{label.question}-second-{place}",
                "preference": said.preference,
                "annotator": f"simulated-{annotator}",
                "source": "simulated",
                "at": "",
                "prompt_version": "",
            }
        )
