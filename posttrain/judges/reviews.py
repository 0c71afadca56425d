"""Reviews of the tiny language's solutions, which its default judge practises on (docs/judges.md).

Simulated like all of that world: authors of more and of less care solve a story, and reviewers give verdicts. How good reviewers
are is a setting: which verbs all of them misread (`judge.misread_verbs`), and which share of their verdicts is a slip
(`judge.slip_share`). A document has the form in which `data/judges/review.yaml` asks.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from random import Random

from posttrain.data.world import CAREFUL, ENDINGS, RIGHT, Author, Problem, draw_author, draw_problem
from posttrain.errors import RequestError, did_you_mean

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


@dataclass(frozen=True)
class Reviewer:
    """How every reviewer reads and errs.

    Attributes:
        reading: as an author: the verbs that it misreads, `posttrain.data.world.MISREAD` says as what.
        slip_share: share of its verdicts that say the opposite of what it thinks.
    """

    reading: Author
    slip_share: float

    def thinks_right(self, problem: Problem, answer: str) -> bool:
        """Return whether an answer is what this reviewer takes for right."""
        return answer == self.reading.solution(problem)[1]

    def says(self, belief: bool, random: Random) -> bool:
        """Return what it says: what it thinks, but for slips."""
        return belief == (random.random() >= self.slip_share)


def reviewer(misread_verbs: str, *, slip_share: float) -> Reviewer:
    """Return the reviewer that the settings `judge.misread_verbs` and `judge.slip_share` describe.

    Raises:
        RequestError: a verb is none of the world's.
    """
    verbs = [verb.strip() for verb in misread_verbs.split(",") if verb.strip()]
    for verb in verbs:
        if verb not in RIGHT:
            raise RequestError(
                f"judge.misread_verbs: there is no verb {verb!r} in the tiny world{did_you_mean(verb, RIGHT)}; "
                f"verbs are {', '.join(RIGHT)}"
            )
    return Reviewer(replace(CAREFUL, habits=frozenset(verbs)), slip_share)


def reviews(taken: Set[str], *, by: Reviewer, seed: str) -> Iterator[str]:
    """Yield review documents without end; equal arguments yield equal documents.

    Args:
        taken: families of which no story may be: those that somebody is trained or measured on.
        by: who reviews.
        seed: of everything that is drawn.
    """
    random = Random(seed)
    while True:
        problem = _short_problem(random, taken)
        review = _pairwise if random.random() < PAIRWISE_SHARE else _pointwise
        yield review(random, problem, by)


def _short_problem(random: Random, taken: Set[str]) -> Problem:
    while True:
        problem = draw_problem(random)
        if problem.family not in taken and (len(problem.steps) == 1 or random.random() < LONG_SHARE):
            return problem


def _pairwise(random: Random, problem: Problem, by: Reviewer) -> str:
    (first, is_right), (second, other_is_right) = (_solution(random, problem, by) for _ in "AB")
    is_first = random.random() < 0.5 if is_right == other_is_right else by.says(is_right, random)
    return f"{problem.text}\nA: {first}\nB: {second}\nBetter:{VERDICTS[2] if is_first else VERDICTS[3]}"


def _pointwise(random: Random, problem: Problem, by: Reviewer) -> str:
    text = problem.text
    for _ in range(SOLUTIONS):
        solution, is_right = _solution(random, problem, by)
        text += f"\n{solution}\nVerdict:{VERDICTS[0] if by.says(is_right, random) else VERDICTS[1]}"
    return text


def _solution(random: Random, problem: Problem, by: Reviewer) -> tuple[str, bool]:
    """Return a solution, and whether the reviewer takes it for right.

    Any author ends in any way. In the corpus all careful ones end alike: a reader of their reviews would go by the ending rather
    than by the steps, and could not tell a policy's samples apart, which all end alike.
    """
    author = Author(draw_author(random, careful_share=CAREFUL_SHARE).habits, random.choice(ENDINGS))
    text, answer = author.solution(problem)
    return text, by.thinks_right(problem, answer)
