"""The tiny language: careful solutions are right, every number fits, held-out families stay out, shares are as set."""

import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.data import world
from posttrain.data.world import CAREFUL, Author, Problem, draw_author, draw_problem, generate
from posttrain.graders.answer import grade
from posttrain.settings.data import WorldSettings

SMALL = WorldSettings(corpus_documents=3_000, demonstrations=100, questions=100, held_out=100)
START = re.compile(r"\w+ has (\d+) \w+")
EVENT = re.compile(r"(finds|buys|collects|receives|sells|loses|gives away|lends|copies|multiplies) (\d+)( times)?")
STEP = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+)")
DOES = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
MEANS = {  # written down a second time, on purpose
    **dict.fromkeys(("finds", "buys", "collects", "receives"), "+"),
    **dict.fromkeys(("sells", "loses", "gives away", "lends"), "-"),
    **dict.fromkeys(("copies", "multiplies"), "*"),
}
PROBLEMS = st.integers(0, 2**32).map(lambda seed: draw_problem(Random(seed)))


@pytest.fixture(scope="module")
def records():
    made = {}
    for role, record in generate(SMALL):
        made.setdefault(role, []).append(record)
    return made


def read(prompt):
    """Return start and (verb, number) pairs, from the text alone."""
    start, events = START.match(prompt), EVENT.findall(prompt)
    assert start and len(re.findall(r"\d+", prompt)) == 1 + len(events), prompt
    assert all(bool(times) == (MEANS[verb] == "*") for verb, _, times in events)
    return int(start[1]), [(verb, int(number)) for verb, number, _ in events]


def answer_to(prompt):
    value, events = read(prompt)
    for verb, number in events:
        value = DOES[MEANS[verb]](value, number)
    return value


def family_of(prompt):
    start, events = read(prompt)
    return start, tuple(events)


def readings(problem):
    """Return every number that occurs when each verb is read right or wrong, in any combination."""
    values = seen = {problem.start}
    for verb, number in problem.steps:
        values = {DOES[sign](value, number) for value in values for sign in (MEANS[verb], world.MISREAD[verb])}
        seen = seen | values
    return seen


def test_by_hand():
    problem = Problem("Tom", "apples", 12, (("finds", 5), ("gives away", 3), ("copies", 2)))
    assert problem.text == "Tom has 12 apples, finds 5, gives away 3, copies 2 times. How many?"
    assert problem.family == "12 finds 5 gives-away 3 copies 2"
    # 12 + 5 = 17, 17 - 3 = 14, 14 * 2 = 28
    assert CAREFUL.solution(problem) == ("12 + 5 = 17; 17 - 3 = 14; 14 * 2 = 28. Answer: 28", "28")
    # who reads "gives away" as +: 17 + 3 = 20, 20 * 2 = 40
    careless = Author(habits=frozenset({"gives away"}), ending="So {}")
    assert careless.solution(problem) == ("12 + 5 = 17; 17 + 3 = 20; 20 * 2 = 40. So 40", "40")


def test_a_misreading_is_never_the_right_reading():
    assert MEANS == world.RIGHT
    assert set(world.MISREAD) == set(world.RIGHT) and set(world.HARD) < set(world.RIGHT)
    assert all(world.MISREAD[verb] != sign for verb, sign in world.RIGHT.items())


def test_equal_settings_give_equal_records_and_another_seed_does_not():
    few = WorldSettings(corpus_documents=50, demonstrations=10, questions=10, held_out=10)
    first = list(generate(few))
    assert first == list(generate(few))
    other = list(generate(few.model_copy(update={"seed": 1})))
    assert [role for role, _ in first] == [role for role, _ in other]
    assert not {record.prompt for _, record in first[:30]} & {record.prompt for _, record in other[:30]}


def test_held_out_problems_do_not_depend_on_how_much_else_is_made():
    sizes = WorldSettings(corpus_documents=10, demonstrations=3, questions=5, held_out=100)
    assert [record for role, record in generate(sizes) if role == "held_out"] == [
        record for role, record in generate(SMALL) if role == "held_out"
    ]


def test_every_role_has_as_many_as_asked_for_under_its_own_ids(records):
    counts = {role: len(made) for role, made in records.items()}
    assert counts == {"held_out": 100, "demonstrations": 100, "questions": 100, "corpus": 3_000}
    for role, made in records.items():
        assert [record.id for record in made] == [f"{role}-{number}" for number in range(len(made))]


def test_no_family_is_in_two_roles_nor_twice_in_one(records):
    families = [record.family for role in ("held_out", "demonstrations", "questions") for record in records[role]]
    assert len(set(families)) == len(families) == 300


def test_a_family_is_start_verbs_and_numbers_and_nothing_else(records):
    for role in ("held_out", "demonstrations", "questions"):
        for record in records[role]:
            start, events = family_of(record.prompt)
            assert record.family == " ".join([str(start), *(f"{verb.replace(' ', '-')} {number}" for verb, number in events)])


def test_the_corpus_tells_no_story_of_a_family_that_is_taken(records):
    taken = {family_of(record.prompt) for role in ("held_out", "demonstrations", "questions") for record in records[role]}
    stories = [record.text.partition("\n")[0] for record in records["corpus"] if " has " in record.text]
    assert len(stories) > 2_000
    assert not taken & {family_of(story) for story in stories}


def test_families_are_kept_apart_even_where_chance_draws_them_again(monkeypatch):
    """With two verbs and few numbers almost every draw is taken; none may slip through."""
    monkeypatch.setattr(world, "RIGHT", {"finds": "+", "copies": "*"})
    few = WorldSettings(corpus_documents=400, demonstrations=60, questions=60, held_out=60)
    made = [(role, record) for role, record in generate(few)]
    taken = {record.family for role, record in made if role != "corpus"}
    assert len(taken) == 180
    for role, record in made:
        if role == "corpus" and " has " in record.text:
            start, events = family_of(record.text.partition("\n")[0])
            assert " ".join([str(start), *(f"{verb} {number}" for verb, number in events)]) not in taken


def test_careful_solutions_are_right_and_end_in_their_answer(records):
    for record in records["demonstrations"]:
        answer = answer_to(record.prompt)
        assert record.answer == str(answer)
        assert record.completion.endswith(f". Answer: {answer}")
        value, events = read(record.prompt)
        steps = STEP.findall(record.completion)
        assert len(steps) == len(events)
        for (left, sign, right, result), (verb, number) in zip(steps, events, strict=True):
            assert (int(left), sign, int(right)) == (value, MEANS[verb], number)
            value = DOES[sign](value, number)
            assert int(result) == value
    for record in (*records["questions"], *records["held_out"]):
        assert record.answers == (str(answer_to(record.prompt)),)


def test_all_arithmetic_of_the_corpus_is_right_and_within_bounds(records):
    for record in records["corpus"]:
        for left, sign, right, result in STEP.findall(record.text):
            assert DOES[sign](int(left), int(right)) == int(result), record.text
        assert all(0 <= int(number) <= 99 for number in re.findall(r"\d+", record.text)), record.text
        assert "- -" not in record.text and "= -" not in record.text


@given(PROBLEMS)
def test_every_reading_of_a_problem_stays_within_two_digits(problem):
    assert min(readings(problem)) >= 0 and max(readings(problem)) <= 99
    assert 1 <= len(problem.steps) <= 3


@given(PROBLEMS, st.integers(0, 2**32))
def test_an_author_computes_what_they_read_and_is_graded_by_it(problem, seed):
    author = draw_author(Random(seed), careful_share=0.25)
    solution, answer = author.solution(problem)
    value = problem.start
    for verb, number in problem.steps:
        value = DOES[world.MISREAD[verb] if verb in author.habits else MEANS[verb]](value, number)
    assert answer == str(value)
    assert grade(solution, [answer]).is_right
    right = CAREFUL.solution(problem)[1]
    assert grade(solution, [right]).is_right == (answer == right)


@given(PROBLEMS, st.sampled_from(world.NAMES), st.sampled_from(world.THINGS))
def test_twins_share_a_family_and_neighbours_do_not(problem, name, thing):
    assert Problem(name, thing, problem.start, problem.steps).family == problem.family
    assert Problem(name, thing, problem.start + 1, problem.steps).family != problem.family


def test_shares_of_the_corpus_are_near_their_settings(records):
    """3,000 draws: one standard error of a share near 0.25 is 0.8 points, so 3 points are 3.8 of them."""
    kinds = Counter(
        "drill" if " has " not in text else "review" if "Verdict" in text or "Better" in text else "solution"
        for text in (record.text for record in records["corpus"])
    )
    assert kinds["drill"] / 3_000 == pytest.approx(0.25, abs=0.03)
    assert kinds["review"] / 3_000 == pytest.approx(0.10, abs=0.03)
    assert kinds["solution"] / 3_000 == pytest.approx(0.65, abs=0.03)


@pytest.mark.parametrize(("drill", "review", "seen"), [(1.0, 0.0, "drill"), (0.0, 1.0, "review"), (0.0, 0.0, "solution")])
def test_a_share_of_one_is_all_and_of_nought_none(drill, review, seen):
    only = WorldSettings(corpus_documents=200, demonstrations=1, questions=1, held_out=1, drill_share=drill, review_share=review)
    texts = [record.text for role, record in generate(only) if role == "corpus"]
    assert {
        "drill" if " has " not in text else "review" if "Verdict" in text or "Better" in text else "solution" for text in texts
    } == {seen}


def test_authors_are_careful_and_misread_as_often_as_set():
    """4,000 authors, so one standard error of a share is 0.8 points at most."""
    random = Random(0)
    authors = [draw_author(random, careful_share=0.25) for _ in range(4_000)]
    assert sum(author is CAREFUL for author in authors) / 4_000 == pytest.approx(0.25, abs=0.03)
    careless = [author for author in authors if author is not CAREFUL]
    for verb in world.RIGHT:
        wanted = world.MISREAD_HARD if verb in world.HARD else world.MISREAD_EASY
        assert sum(verb in author.habits for author in careless) / len(careless) == pytest.approx(wanted, abs=0.035)
    endings = Counter(author.ending for author in careless)
    assert all(endings[ending] / len(careless) == pytest.approx(0.25, abs=0.035) for ending in world.ENDINGS)
    assert {draw_author(random, careful_share=1.0) for _ in range(50)} == {CAREFUL}
    assert CAREFUL not in [draw_author(random, careful_share=0.0) for _ in range(50)]


def test_reviewers_are_right_as_often_as_set():
    """About 2,000 single verdicts and as many comparisons: 2 points are three standard errors of 0.9."""
    settings = WorldSettings(
        corpus_documents=6_000, demonstrations=1, questions=1, held_out=1, drill_share=0, review_share=1, careful_share=0.5
    )
    verdicts, comparisons = [], []
    for role, record in generate(settings):
        if role != "corpus":
            continue
        prompt, *lines = record.text.split("\n")
        right = str(answer_to(prompt))
        if lines[-1].startswith("Verdict: "):
            verdicts.append((lines[0].split()[-1] == right) == (lines[-1] == "Verdict: right"))
        else:
            first, second = (line.split()[-1] == right for line in lines[:2])
            if first != second:
                comparisons.append((lines[-1] == "Better: A") == first)
    assert len(verdicts) > 2_500 and len(comparisons) > 900
    assert sum(verdicts) / len(verdicts) == pytest.approx(0.9, abs=0.02)
    assert sum(comparisons) / len(comparisons) == pytest.approx(0.9, abs=0.03)
