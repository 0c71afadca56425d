"""The tiny language of the offline default: arithmetic stories, told and solved by many authors.

A problem is a story of one to three steps. A verb stands for an operation (`RIGHT`); most authors misread some verbs, always
the same way (`MISREAD`), and compute correctly what they misread. So the base model can compute, imitates good and bad
authors alike, and has the right answer among its samples more often than on its first try: the room post-training lives
from. Reviews of solutions, by reviewers of mixed quality, make it a weak judge as well. Why these mixtures, and what they
lead to: docs/decisions/0003-world.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from posttrain.records import Demonstration, Question, Record, Text
from posttrain.settings.data import WorldSettings

NAMES = ("Tom", "Ann", "Ben", "Eva", "Sam", "Mia", "Leo", "Zoe")
THINGS = ("apples", "coins", "books", "cards", "shells", "stamps")

RIGHT = {
    "finds": "+",
    "buys": "+",
    "collects": "+",
    "receives": "+",
    "sells": "-",
    "loses": "-",
    "gives away": "-",
    "lends": "-",
    "copies": "*",
    "multiplies": "*",
}
MISREAD = {
    "finds": "-",
    "buys": "-",
    "collects": "*",
    "receives": "-",
    "sells": "+",
    "loses": "+",
    "gives away": "+",
    "lends": "+",
    "copies": "+",
    "multiplies": "+",
}
HARD = ("buys", "collects", "sells", "lends", "copies")
"""Verbs that most careless authors misread; the others are misread by few."""
MISREAD_HARD = 0.85
MISREAD_EASY = 0.20
ENDINGS = ("Answer: {}", "So {}", "Total {}", "Now {}")
CAREFUL_ENDING = ENDINGS[0]
LARGEST = 99
REVIEWER_ACCURACY = 0.9


@dataclass(frozen=True)
class Problem:
    """A story: who has how many of what, and what happens, as (verb, number) pairs."""

    name: str
    thing: str
    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def family(self) -> str:
        """Verb sequence × numbers: twins that differ in names and things only share it."""
        return f"{self.start} " + " ".join(f"{verb.replace(' ', '-')} {number}" for verb, number in self.steps)

    @property
    def text(self) -> str:
        """The story with its question."""
        events = "".join(f", {verb} {number}{' times' * (RIGHT[verb] == '*')}" for verb, number in self.steps)
        return f"{self.name} has {self.start} {self.thing}{events}. How many?"


@dataclass(frozen=True)
class Author:
    """Reads the verbs in `habits` wrong, and ends solutions in a way of their own."""

    habits: frozenset[str]
    ending: str

    def solution(self, problem: Problem) -> tuple[str, str]:
        """Return the chain of steps as this author writes it, and the final answer it arrives at."""
        value, lines = problem.start, []
        for verb, number in problem.steps:
            sign = (MISREAD if verb in self.habits else RIGHT)[verb]
            result = _compute(value, sign, number)
            lines.append(f"{value} {sign} {number} = {result}")
            value = result
        return "; ".join(lines) + ". " + self.ending.format(value), str(value)


CAREFUL = Author(habits=frozenset(), ending=CAREFUL_ENDING)


def _compute(value: int, sign: str, number: int) -> int:
    return {"+": value + number, "-": value - number, "*": value * number}[sign]


def _reachable(values: set[int], verb: str, number: int) -> set[int]:
    return {_compute(value, sign, number) for value in values for sign in (RIGHT[verb], MISREAD[verb])}


def draw_problem(random: Random) -> Problem:
    """Return a story in which every reading, right or wrong, stays within 0..99."""
    while True:
        start = random.randint(2, 40)
        values, steps = {start}, []
        for _ in range(random.choice((1, 2, 2, 3, 3))):
            verb = random.choice(tuple(RIGHT))
            number = random.randint(2, 3) if "*" in (RIGHT[verb], MISREAD[verb]) else random.randint(2, 9)
            values = _reachable(values, verb, number)
            steps.append((verb, number))
        if min(values) >= 0 and max(values) <= LARGEST:
            return Problem(random.choice(NAMES), random.choice(THINGS), start, tuple(steps))


def draw_author(random: Random, *, careful_share: float) -> Author:
    """Return a careful author with that chance, else one with habits."""
    if random.random() < careful_share:
        return CAREFUL
    habits = frozenset(verb for verb in RIGHT if random.random() < (MISREAD_HARD if verb in HARD else MISREAD_EASY))
    return Author(habits=habits, ending=random.choice(ENDINGS))


def generate(settings: WorldSettings) -> Iterator[tuple[str, Record]]:
    """Yield every record of the default dataset with its role; equal settings yield equal records.

    The families of held-out problems occur in no other role, nor do those of questions and demonstrations occur in the corpus.
    """
    taken: set[str] = set()
    for role, count in (
        ("held_out", settings.held_out),
        ("demonstrations", settings.demonstrations),
        ("questions", settings.questions),
    ):
        random = Random(f"{settings.seed}/{role}")
        for number in range(count):
            problem = _new_problem(random, taken)
            taken.add(problem.family)
            yield role, _problem_record(role, number, problem)
    random = Random(f"{settings.seed}/corpus")
    for number in range(settings.corpus_documents):
        yield "corpus", Text(id=f"corpus-{number}", text=_document(random, settings, taken))


def _new_problem(random: Random, taken: set[str]) -> Problem:
    while (problem := draw_problem(random)).family in taken:
        pass
    return problem


def _problem_record(role: str, number: int, problem: Problem) -> Record:
    solution, answer = CAREFUL.solution(problem)
    identity = f"{role}-{number}"
    if role == "demonstrations":
        return Demonstration(id=identity, family=problem.family, prompt=problem.text, completion=solution, answer=answer)
    return Question(id=identity, family=problem.family, prompt=problem.text, answers=(answer,))


def _document(random: Random, settings: WorldSettings, taken: set[str]) -> str:
    sort = random.random()
    if sort < settings.drill_share:
        return _drill(random)
    problem = _new_problem(random, taken)
    author = draw_author(random, careful_share=settings.careful_share)
    if sort < settings.drill_share + settings.review_share:
        return _review(random, problem, author, draw_author(random, careful_share=settings.careful_share))
    return f"{problem.text}\n{author.solution(problem)[0]}"


def _drill(random: Random) -> str:
    lines: list[str] = []
    while len(lines) < 6:
        sign = random.choice("+-*")
        left = random.randint(0, LARGEST)
        right = random.randint(2, 3) if sign == "*" else random.randint(2, 9)
        if 0 <= (result := _compute(left, sign, right)) <= LARGEST:
            lines.append(f"{left} {sign} {right} = {result}")
    return "; ".join(lines) + "."


def _review(random: Random, problem: Problem, author: Author, other: Author) -> str:
    solution, answer = author.solution(problem)
    _, right = CAREFUL.solution(problem)
    reviewer_errs = random.random() > REVIEWER_ACCURACY
    if random.random() < 0.5:
        verdict = (answer == right) != reviewer_errs
        return f"{problem.text}\n{solution}\nVerdict: {'right' if verdict else 'wrong'}"
    second, second_answer = other.solution(problem)
    better = random.random() < 0.5 if (answer == right) == (second_answer == right) else (answer == right) != reviewer_errs
    return f"{problem.text}\nA: {solution}\nB: {second}\nBetter: {'A' if better else 'B'}"
