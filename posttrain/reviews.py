"""Reviews of the tiny language's solutions, which its default judge practises on (docs/judges.md).

Simulated like all of that world: authors as in its corpus, and reviewers whose verdict is the wrong one in a tenth of the
cases (`posttrain.world.REVIEWER_ACCURACY`). A document has the form in which `data/judges/review.yaml` asks.
"""

from collections.abc import Iterator, Set
from random import Random

from posttrain.world import CAREFUL, REVIEWER_ACCURACY, Problem, draw_author, draw_problem

VERDICTS = (" right", " wrong", " A", " B")
"""What a review says in the end, as it stands in the text."""
PAIRWISE_SHARE = 0.3
SOLUTIONS = 4
"""Solutions that a pointwise review goes through, one verdict each."""
LONG_SHARE = 0.15
"""Share kept of the stories of several steps. One step shows a misread verb without anything beside it, and what is learnt
there holds for longer stories too."""


def reviews(taken: Set[str], *, careful_share: float, seed: str) -> Iterator[str]:
    """Yield review documents without end; equal arguments yield equal documents.

    Args:
        taken: families of which no story may be: those that somebody is trained or measured on.
        careful_share: of the authors.
        seed: of everything that is drawn.
    """
    random = Random(seed)
    while True:
        problem = _short_problem(random, taken)
        review = _pairwise if random.random() < PAIRWISE_SHARE else _pointwise
        yield review(random, problem, careful_share)


def _short_problem(random: Random, taken: Set[str]) -> Problem:
    while True:
        problem = draw_problem(random)
        if problem.family not in taken and (len(problem.steps) == 1 or random.random() < LONG_SHARE):
            return problem


def _pairwise(random: Random, problem: Problem, careful_share: float) -> str:
    (first, is_right), (second, other_is_right) = (_solution(random, problem, careful_share) for _ in "AB")
    is_first = random.random() < 0.5 if is_right == other_is_right else _said(random, is_right)
    return f"{problem.text}\nA: {first}\nB: {second}\nBetter:{VERDICTS[2] if is_first else VERDICTS[3]}"


def _pointwise(random: Random, problem: Problem, careful_share: float) -> str:
    text = problem.text
    for _ in range(SOLUTIONS):
        solution, is_right = _solution(random, problem, careful_share)
        text += f"\n{solution}\nVerdict:{VERDICTS[0] if _said(random, is_right) else VERDICTS[1]}"
    return text


def _solution(random: Random, problem: Problem, careful_share: float) -> tuple[str, bool]:
    text, answer = draw_author(random, careful_share=careful_share).solution(problem)
    return text, answer == CAREFUL.solution(problem)[1]


def _said(random: Random, truth: bool) -> bool:
    """Return what a reviewer says of something: the truth, but for the reviewers' mistakes."""
    return truth == (random.random() < REVIEWER_ACCURACY)
