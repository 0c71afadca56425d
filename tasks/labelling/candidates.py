"""What may be asked: pairs, or groups of responses to one question, drawn from samples; and what is known of each already."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import isfinite
from pathlib import Path
from random import Random

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.feedback.labels import Label, by_pair
from posttrain.feedback.shown_pairs import Pair
from posttrain.graders import Grader, Sample, build_grader
from posttrain.labelling.items import Candidate, Item, Kind, Response
from posttrain.labelling.selections import Opinions
from posttrain.records import Question
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.pairs import draw_pairs
from tasks.workspace.jsonl import read_rows

ALL_PAIRS = 1_000
"""More pairs than the samples of a question give."""
KNOWN = "known"
"""How a check was chosen: because its right order is known. It is no fair sample of anything."""
REMEDY = "Train it again (make pipeline METHOD=rlhf), or draw at random (labelling.selection=random)"
Texts = tuple[str, frozenset[str]]
"""A question's id and the texts of responses to it, in no order."""


def texts_of(question: str, responses: Iterable[str]) -> Texts:
    """Return what tells whether two candidates ask the same, in whatever order their responses stand."""
    return question, frozenset(responses)


@dataclass(frozen=True)
class Pool:
    """Where candidates are drawn from.

    Attributes:
        samples: artifact of the stage `sample`.
        model_uri: of the model that wrote them.
        seed: of what is drawn.
        asked: what was asked before, and is not asked again; of ratings, each response by itself.
    """

    samples: Path
    model_uri: str
    seed: int
    asked: Collection[Texts] = ()

    def leaves(self, candidate: Candidate, kind: Kind) -> bool:
        """Return whether a candidate may be asked."""
        texts = [one.text for one in candidate.responses]
        parts = [[text] for text in texts] if kind == "rating" else [texts]
        return not any(texts_of(candidate.question, part) in self.asked for part in parts)


# --- candidates -------------------------------------------------------------------------------------------------------


def draw_candidates(pool: Pool, *, kind: Kind, responses: int, settings: LabelSettings) -> list[Candidate]:
    """Return what may be asked, in a random order; how each is chosen is not said yet (`selection` is empty).

    Args:
        pool: the samples, and what is left out.
        kind: of a pair two responses stand together, of a ranking or a rating as many as `responses`.
        responses: at most; fewer where a question has fewer different ones.
        settings: how many pairs a question, and among which.

    Raises:
        DataError: nothing is left to ask, or no question has two different responses.
    """
    drawn = draw_pairs(pool.samples, settings, model_uri=pool.model_uri, seed=pool.seed) if kind == "pair" else []
    found = [_of_pair(pair) for pair in drawn] if kind == "pair" else _groups(pool, responses)
    left = [one for one in found if pool.leaves(one, kind)]
    if found and not left:
        raise DataError(
            f"people were asked about all {len(found):,} candidates that these samples give. Sample more of a question "
            "(sample.per_prompt) or of more questions (sample.question_share), or label another dataset"
        )
    if not left:
        raise DataError(
            "no question has two different responses, so there is nothing to label. Sample more (sample.per_prompt), or hotter "
            "(sample.temperature)"
        )
    return left


def draw_checks(pool: Pool, settings: LabelSettings, *, most: int) -> list[Candidate]:
    """Return pairs of a right response and a wrong one, as the answers of the dataset tell; none where there are no answers.

    They are drawn from all pairs, so that there are some besides those that are asked anyway. That one of two wrong responses
    ended by itself makes it no better for a person, whatever gold says: such a pair is no check.

    Args:
        pool: the samples, and what is left out.
        settings: of the pairs.
        most: how many are wanted; fewer where there are fewer.
    """
    grader = build_grader("answer")
    every = settings.model_copy(update={"pairs": "random", "pairs_per_prompt": ALL_PAIRS})
    try:
        pairs = draw_pairs(pool.samples, every, model_uri=pool.model_uri, seed=pool.seed)
    except DataError:
        return []
    checks = (_of_check(pair, grader) for pair in pairs if pair.gold in (0.0, 1.0))
    left = (one for one in checks if one is not None and pool.leaves(one, "pair"))
    return list(islice(left, most))


def _of_check(pair: Pair, grader: Grader) -> Candidate | None:
    record = {"id": pair.question.id, "answers": pair.question.answers}
    first, second = (grade.is_right for grade in grader.grade([Sample(pair.first, record), Sample(pair.second, record)]))
    if first == second:
        return None
    return replace(_of_pair(pair), selection=KNOWN, known=(0, 1) if first else (1, 0))


def _of_pair(pair: Pair) -> Candidate:
    return Candidate(
        question=pair.question.id,
        family=pair.question.family,
        prompt=pair.question.prompt,
        responses=(
            Response(text=pair.first, model=pair.first_model, finished=pair.first_finished),
            Response(text=pair.second, model=pair.second_model, finished=pair.second_finished),
        ),
        selection="",
        gold=pair.gold,
    )


def _groups(pool: Pool, most: int) -> list[Candidate]:
    """Return a group of different responses a question; a question whose samples are all alike gives none."""
    random = Random(f"{pool.seed}/groups")
    found = []
    for row in read_rows(pool.samples / "samples.jsonl"):
        question, is_finished = Question.model_validate(row["question"]), dict(row["responses"])
        texts = random.sample(list(is_finished), min(most, len(is_finished)))
        if len(texts) > 1:
            given = tuple(Response(text=text, model=pool.model_uri, finished=is_finished[text]) for text in texts)
            found.append(Candidate(question.id, question.prompt, given, selection="", family=question.family))
    random.shuffle(found)
    return found


# --- opinions ---------------------------------------------------------------------------------------------------------


def opinions_of(
    candidates: Sequence[Candidate],
    *,
    rewards: Sequence[tuple[tuple[float, ...], ...]] = (),
    judged: Iterable[Label] = (),
    people: Iterable[Label] = (),
) -> list[Opinions]:
    """Return what is known of each candidate.

    Args:
        candidates: of whom.
        rewards: of each, what `reward_scores` gives; empty where no reward model was asked.
        judged: the judge's labels of pairs among them.
        people: people's labels of pairs among them.
    """
    of_judge, of_people = _preferences(judged), _preferences(people)
    scores = rewards or [()] * len(candidates)
    return [
        Opinions(rewards=score, judge=_given(of_judge, one), people=_given(of_people, one))
        for one, score in zip(candidates, scores, strict=True)
    ]


def _preferences(labels: Iterable[Label]) -> Mapping[Texts, tuple[str, float]]:
    """Return by pair the text of one of its responses, and the mean probability that this one is better."""
    told = {}
    for pair, given in by_pair(labels).items():
        preference = sum(each for _, each in given) / len(given)
        told[texts_of(given[0][0].question, (pair.one, pair.other))] = (pair.one, preference)
    return told


def verdicts_on(items: Iterable[Item], judged: Iterable[Label]) -> dict[str, float]:
    """Return by id of item what the judge says of it, the probability that its first response is better, where it was asked."""
    told = _preferences(judged)
    found = {item.id: _given(told, item) for item in items}
    return {name: preference for name, preference in found.items() if preference is not None}


def _given(told: Mapping[Texts, tuple[str, float]], asked: Candidate | Item) -> float | None:
    texts = [each.text for each in asked.responses]
    found = told.get(texts_of(asked.question, texts))
    if found is None:
        return None
    one, preference = found
    return preference if texts[0] == one else 1 - preference


def reward_scores(folder: Path, candidates: Sequence[Candidate], *, batch_size: int) -> list[tuple[tuple[float, ...], ...]]:
    """Return for each candidate what each member of a reward model scores its responses with. (members, responses) each.

    Args:
        folder: of the reward model.
        candidates: of whom; each different response is scored once.
        batch_size: texts scored together, at most.

    Raises:
        StorageError: the model cannot be loaded, or a score is no number.
    """
    from safetensors import SafetensorError

    from models.load import device, load_tokenizer, prompt_text
    from models.reward import load_reward_model, score_texts

    if not (folder / "config.json").is_file():
        raise StorageError(f"the reward model in {folder} is not there any more. {REMEDY}")
    try:
        members = load_reward_model(str(folder), on=device())
        reader = load_tokenizer(folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, RequestError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise StorageError(f"the reward model in {folder} cannot be loaded: {reason}. {REMEDY}") from None
    prompts = {one.prompt: prompt_text(reader, one.prompt) for one in candidates}
    texts = list(dict.fromkeys(prompts[one.prompt] + each.text for one in candidates for each in one.responses))
    tables = []
    for member in members:
        scores = score_texts([member], reader, texts, batch_size=batch_size)
        if not all(map(isfinite, scores)):
            raise StorageError(
                f"the reward model in {folder} gives scores that are no numbers. Train it again, or select at random"
            )
        tables.append(dict(zip(texts, scores, strict=True)))
    return [
        tuple(tuple(table[prompts[one.prompt] + each.text] for each in one.responses) for table in tables) for one in candidates
    ]
