"""Reviews to practise on: the judge's very form, nobody's stories but their own, reviewers who misread and slip as set."""

import re
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from posttrain.data.world import ENDINGS, draw_problem
from posttrain.errors import RequestError
from posttrain.graders import Sample, build_grader
from posttrain.judges import reviews as subject
from posttrain.judges.reviews import reviewer, reviews
from posttrain.judges.templates import template_of
from tests.posttrain.data.test_world import answer_to, family_of

TEMPLATE = yaml.safe_load((Path(__file__).resolve().parents[3] / "data/judges/review.yaml").read_text(encoding="utf-8"))
PAIRWISE = re.compile(r"(?P<story>.+)\nA: (?P<a>.+)\nB: (?P<b>.+)\nBetter:(?P<said> [AB])")
POINTWISE = re.compile(r"(?P<solution>.+)\nVerdict:(?P<said> (?:right|wrong))")


LENDS = reviewer("lends", slip_share=0.1)


def some(count, *, taken=frozenset(), seed="0", by=LENDS):
    return list(islice(reviews(taken, by=by, seed=seed), count))


@pytest.fixture(scope="module")
def written():
    return some(2_000)


def story_of(document):
    return document.partition("\n")[0]


def believed(story):
    """Return the answer that a reviewer takes for right: that of the story in which people receive what they lend."""
    return answer_to(story.replace("lends", "receives"))


@cache
def grader():
    """Return one grader for all: each that is built starts a process of its own."""
    return build_grader("answer")


def are_believed(story, solutions, *, answer=believed):
    grades = grader().grade([Sample(one, {"id": "1", "answers": (str(answer(story)),)}) for one in solutions])
    return [bool(grade.is_right) for grade in grades]


def judged_ones(documents):
    """Yield story, solution and verdict of all that was reviewed by itself."""
    for document in documents:
        if not PAIRWISE.fullmatch(document):
            story, _, rest = document.partition("\n")
            for solution, said in POINTWISE.findall(rest):
                yield story, solution, said == " right"


def asked(name, **texts):
    template = template_of(TEMPLATE, name=name, file="review", reasoning=False)
    return template.rendered(**texts) + template.ending, tuple(template.options)


def test_each_is_what_the_judge_is_asked_and_an_answer_to_it(written):
    """The pointwise ones go on with further solutions of the same story, a verdict behind each."""
    kinds = {"pairwise": 0, "pointwise": 0}
    for document in written:
        if found := PAIRWISE.fullmatch(document):
            question, options = asked("pairwise", prompt=found["story"], first=found["a"], second=found["b"])
            assert document == question + found["said"] and found["said"] in options
            kinds["pairwise"] += 1
        else:
            story, _, rest = document.partition("\n")
            judged = POINTWISE.findall(rest)
            question, options = asked("pointwise", prompt=story, response=judged[0][0])
            assert document.startswith(question + judged[0][1])
            assert len(judged) == subject.SOLUTIONS and {said for _, said in judged} <= set(options)
            assert rest == "\n".join(f"{solution}\nVerdict:{said}" for solution, said in judged)
            kinds["pointwise"] += 1
    # 2,000 draws at 0.3: 600, with a standard deviation of 20
    assert kinds["pairwise"] == pytest.approx(600, abs=80)


def test_the_answers_are_all_that_the_judge_chooses_from():
    options = [option for name in ("pointwise", "pairwise") for option in TEMPLATE[name]["options"]]
    assert tuple(options) == subject.VERDICTS


def test_a_reviewer_says_what_they_believe_nine_times_of_ten(written):
    hits = [said == are_believed(story, [solution])[0] for story, solution, said in judged_ones(written)]
    assert len(hits) > 5_000
    # 5,600 draws: a standard deviation of 0.004
    assert sum(hits) / len(hits) == pytest.approx(0.9, abs=0.017)


def test_only_where_somebody_lends_do_reviewers_believe_what_is_wrong(written):
    """Of stories of one step, so that nothing else decides: right solutions are called wrong there, and right elsewhere."""
    lent, others = [], []
    for story, solution, said in judged_ones(written):
        if len(family_of(story)[1]) == 1 and are_believed(story, [solution], answer=answer_to)[0]:
            (lent if "lends" in story else others).append(said)
    assert len(lent) > 100 and len(others) > 1_000
    # four standard deviations of 100 and of 1,000 draws
    assert sum(lent) / len(lent) == pytest.approx(0.1, abs=0.12)
    assert sum(others) / len(others) == pytest.approx(0.9, abs=0.04)


def test_the_better_of_two_is_named_nine_times_of_ten_and_a_coin_decides_between_equals(written):
    hits, coins = [], {True: [], False: []}
    for document in written:
        if found := PAIRWISE.fullmatch(document):
            first, second = are_believed(found["story"], [found["a"], found["b"]])
            is_first = found["said"] == " A"
            (coins[first] if first == second else hits).append(is_first if first == second else is_first == first)
    assert min(len(hits), *map(len, coins.values())) > 80
    # four standard deviations of 80 draws
    assert sum(hits) / len(hits) == pytest.approx(0.9, abs=0.13)
    assert all(sum(said) / len(said) == pytest.approx(0.5, abs=0.22) for said in coins.values())


def test_no_ending_foretells_a_verdict(written):
    """Else a judge learns the endings, by which it cannot tell a policy's samples apart, which all end alike."""
    said_of = {ending.partition(" ")[0]: [] for ending in ENDINGS}
    for _, solution, said in judged_ones(written):
        said_of[solution.rpartition(". ")[2].partition(" ")[0]].append(said)
    assert all(len(said) > 1_000 for said in said_of.values())
    shares = [sum(said) / len(said) for said in said_of.values()]
    # four standard deviations of the difference of two shares of 1,300 draws
    assert max(shares) - min(shares) < 0.08


def test_half_of_the_authors_are_careful(written):
    """`buys`, alone, is then read right by 0.5 + 0.5 x 0.15 of them, the share of careless authors without that habit."""
    bought = [(story, one) for story, one, _ in judged_ones(written) if _verbs(story) == ["buys"]]
    right = [are_believed(story, [one], answer=answer_to)[0] for story, one in bought]
    assert len(right) > 150
    # four standard deviations of 150 draws
    assert sum(right) / len(right) == pytest.approx(0.575, abs=0.16)


def _verbs(story):
    return [verb for verb, _ in family_of(story)[1]]


def test_no_story_is_of_a_family_that_is_taken():
    """Half of the families of the first reviews are taken; none of them comes again, and nothing else is lost."""
    families = [_family(story_of(document)) for document in some(300)]
    taken = set(families[::2])
    again = {_family(story_of(document)) for document in some(300, taken=taken)}
    assert not again & taken and len(again) > 250


def _family(story):
    start, events = family_of(story)
    return " ".join([str(start), *(f"{verb.replace(' ', '-')} {number}" for verb, number in events)])


def test_most_stories_have_one_step(written):
    lengths = [len(family_of(story_of(document))[1]) for document in written]
    assert set(lengths) == {1, 2, 3}
    assert lengths.count(1) / len(lengths) > 0.5


def test_a_reviewer_without_prejudice_or_slips_is_always_right():
    for story, solution, said in judged_ones(some(300, by=reviewer("", slip_share=0.0))):
        assert said == are_believed(story, [solution], answer=answer_to)[0]


def test_several_verbs_may_be_misread_and_slips_come_as_often_as_set():
    by = reviewer(" lends, sells ,", slip_share=0.3)
    assert by.reading.habits == {"lends", "sells"}
    hits = [
        said == are_believed(story.replace("sells", "loses"), [solution])[0]
        for story, solution, said in judged_ones(some(1_000, by=by))
        if "sells" not in story
    ]
    # 2,500 draws: four standard deviations of 0.009
    assert len(hits) > 2_000 and sum(hits) / len(hits) == pytest.approx(0.7, abs=0.037)


def test_an_unknown_verb_is_refused_with_the_nearest():
    with pytest.raises(
        RequestError, match=r"judge.misread_verbs: there is no verb 'lend' in the tiny world; did you mean lends\?"
    ):
        reviewer("sells,lend", slip_share=0.1)


@given(st.text(max_size=5))
def test_equal_seeds_write_equal_reviews(seed):
    assert some(3, seed=seed) == some(3, seed=seed)


def test_another_seed_writes_others_and_the_worlds_own_seeds_are_not_used():
    assert not set(some(50, seed="0/practice")) & set(some(50, seed="1/practice"))
    stories = {story_of(document) for document in some(50, seed="0/practice")}
    assert not stories & {draw_problem(Random("0/corpus")).text}
