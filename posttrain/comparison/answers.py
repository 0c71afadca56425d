"""Which questions show best where methods differ, with what each of them answered."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain.comparison.results import Design, MethodResult, Question

MOST = 60
"""Questions on the page: more are not read, and the page stays small."""


def telling_answers(design: Design, questions: Sequence[Question], methods: Sequence[MethodResult]) -> list[dict[str, Any]]:
    """Return the questions on which methods differ most, each with one answer of every method, as `AnswerRow` has them.

    First come those where the methods' means over seeds lie farthest apart; among equals each pattern of who does well comes in
    turn, so that not all of them show the same two methods. A question on which all do alike is not shown.
    """
    seeds = _shown_seeds(methods)
    means = np.stack([np.mean([np.asarray(one.scores) for one in each.by_seed.values()], axis=0) for each in methods])
    spread = means.max(axis=0) - means.min(axis=0)
    middle = (means.max(axis=0) + means.min(axis=0)) / 2
    seen: Counter[tuple[float, bytes]] = Counter()
    ranks = []
    for place in range(len(questions)):
        distance = round(float(spread[place]), 9)
        pattern = (distance, (means[:, place] > middle[place]).tobytes())
        ranks.append((-distance, seen[pattern], place))
        seen[pattern] += 1
    chosen = [place for distance, _, place in sorted(ranks) if distance < 0][:MOST]
    return [_row(design, questions[place], place, methods, seeds) for place in chosen]


def _shown_seeds(methods: Sequence[MethodResult]) -> dict[str, int]:
    """Return the seed whose answers are shown: the lowest that all have, else each method's own lowest."""
    common = set.intersection(*(set(each.by_seed) for each in methods))
    return {each.name: min(common or each.by_seed) for each in methods}


def _row(
    design: Design, question: Question, place: int, methods: Sequence[MethodResult], seeds: Mapping[str, int]
) -> dict[str, Any]:
    by = {}
    for method in methods:
        result = method.by_seed[seeds[method.name]]
        score = float(result.scores[place])
        by[method.name] = {
            "seed": result.seed,
            "text": None if result.texts is None else result.texts[place],
            "is_right": None if result.is_right is None else bool(result.is_right[place]),
            "score": score if design.higher_is_better else 0.0 - score,
        }
    return {"id": question.id, "prompt": question.prompt, "answers": list(question.answers), "by": by}
