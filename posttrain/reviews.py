"""Reviews of the tiny language's solutions, which its default judge practises on (docs/judges.md).

Simulated like all of that world: authors of more and of less care solve a story, and reviewers give verdicts. A reviewer knows
what is right but for two things: all of them misread one verb (`REVIEWER`), and a tenth of what they say is a slip
(`posttrain.world.REVIEWER_ACCURACY`). A document has the form in which `data/judges/review.yaml` asks.
"""

from collections.abc import Iterator, Set
from dataclasses import replace
from random import Random

from posttrain.world import CAREFUL, ENDINGS, REVIEWER_ACCURACY, Author, Problem, draw_author, draw_problem

REVIEWER = replace(CAREFUL, habits=frozenset({"lends"}))
"""How every reviewer reads: whoever lends something has more of it then. So a judge that has learnt all there is to learn from
them is still wrong wherever that verb decides, which no number of its labels mends: a model's opinion has its prejudices."""
CAREFUL_SHARE = 0.5
"""Of the authors: with fewer of them most solutions of some verbs are wrong, and a verb alone foretells the verdict."""
VERDICTS = (" right", " wrong", " A", " B")
"""What a review says in the end, as it stands in the text."""
PAIRWISE_SHARE = 0.3
SOLUTIONS = 4
"""Solutions that a pointwise review goes through, one verdict each."""
LONG_SHARE = 0.15
"""Share kept of the stories of several steps. One step shows a misread verb without anything beside it, and what is learnt
there holds for longer stories too."""


def reviews(taken: Set[str], *, seed: str) -> Iterator[str]:
    """Yield review documents without end; equal arguments yield equal documents.

    Args:
        taken: families of which no story may be: those that somebody is trained or measured on.
        seed: of everything that is drawn.
    """
    random = Random(seed)
    while True:
        problem = _short_problem(random, taken)
        review = _pairwise if random.random() < PAIRWISE_SHARE else _pointwise
        yield review(random, problem)


def _short_problem(random: Random, taken: Set[str]) -> Problem:
    while True:
        problem = draw_problem(random)
        if problem.family not in taken and (len(problem.steps) == 1 or random.random() < LONG_SHARE):
            return problem


def _pairwise(random: Random, problem: Problem) -> str:
    (first, is_right), (second, other_is_right) = (_solution(random, problem) for _ in "AB")
    is_first = random.random() < 0.5 if is_right == other_is_right else _said(random, is_right)
    return f"{problem.text}\nA: {first}\nB: {second}\nBetter:{VERDICTS[2] if is_first else VERDICTS[3]}"


def _pointwise(random: Random, problem: Problem) -> str:
    text = problem.text
    for _ in range(SOLUTIONS):
        solution, is_right = _solution(random, problem)
        text += f"\n{solution}\nVerdict:{VERDICTS[0] if _said(random, is_right) else VERDICTS[1]}"
    return text


def _solution(random: Random, problem: Problem) -> tuple[str, bool]:
    """Return a solution, and whether a reviewer takes it for right.

    Any author ends in any way. In the corpus all careful ones end alike: a reader of their reviews would go by the ending rather
    than by the steps, and could not tell a policy's samples apart, which all end alike.
    """
    author = Author(draw_author(random, careful_share=CAREFUL_SHARE).habits, random.choice(ENDINGS))
    text, answer = author.solution(problem)
    return text, answer == REVIEWER.solution(problem)[1]


def _said(random: Random, belief: bool) -> bool:
    """Return what a reviewer says: what they believe, but for slips."""
    return belief == (random.random() < REVIEWER_ACCURACY)
