"""Reviews to practise on: the judge's very form, nobody's stories but their own, verdicts wrong in a tenth of the cases."""

import re
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from posttrain import reviews as subject
from posttrain.graders import Sample, build_grader
from posttrain.judge_templates import form_of
from posttrain.reviews import reviews
from posttrain.world import draw_problem
from tests.posttrain.test_world import answer_to, family_of

TEMPLATE = yaml.safe_load((Path(__file__).resolve().parents[2] / "data/judges/review.yaml").read_text(encoding="utf-8"))
PAIRWISE = re.compile(r"(?P<story>.+)\nA: (?P<a>.+)\nB: (?P<b>.+)\nBetter:(?P<said> [AB])")
POINTWISE = re.compile(r"(?P<solution>.+)\nVerdict:(?P<said> (?:right|wrong))")


def some(count, *, taken=frozenset(), seed="0", careful_share=0.25):
    return list(islice(reviews(taken, careful_share=careful_share, seed=seed), count))


@pytest.fixture(scope="module")
def written():
    return some(2_000)


def story_of(document):
    return document.partition("\n")[0]


def are_right(story, solutions):
    grades = build_grader("answer").grade([Sample(one, {"id": "1", "answers": (str(answer_to(story)),)}) for one in solutions])
    return [bool(grade.is_right) for grade in grades]


def asked(name, **texts):
    form = form_of(TEMPLATE, name=name, file="review", reasoning=False)
    return form.rendered(**texts) + form.ending, tuple(form.options)


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


def test_a_reviewer_is_right_nine_times_of_ten(written):
    hits = []
    for document in written:
        if not PAIRWISE.fullmatch(document):
            story, _, rest = document.partition("\n")
            judged = POINTWISE.findall(rest)
            hits += [
                (said == " right") == right
                for (_, said), right in zip(judged, are_right(story, [one for one, _ in judged]), strict=True)
            ]
    assert len(hits) > 5_000
    # 5,600 draws: a standard deviation of 0.004
    assert sum(hits) / len(hits) == pytest.approx(0.9, abs=0.017)


def test_the_better_of_two_is_named_nine_times_of_ten_and_a_coin_decides_between_equals(written):
    hits, coins = [], {True: [], False: []}
    for document in written:
        if found := PAIRWISE.fullmatch(document):
            first, second = are_right(found["story"], [found["a"], found["b"]])
            is_first = found["said"] == " A"
            (coins[first] if first == second else hits).append(is_first if first == second else is_first == first)
    assert min(len(hits), *map(len, coins.values())) > 80
    # four standard deviations of 80 draws
    assert sum(hits) / len(hits) == pytest.approx(0.9, abs=0.13)
    assert all(sum(said) / len(said) == pytest.approx(0.5, abs=0.22) for said in coins.values())


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


@given(st.text(max_size=5))
def test_equal_seeds_write_equal_reviews(seed):
    assert some(3, seed=seed) == some(3, seed=seed)


def test_another_seed_writes_others_and_the_worlds_own_seeds_are_not_used():
    assert not set(some(50, seed="0/practice")) & set(some(50, seed="1/practice"))
    stories = {story_of(document) for document in some(50, seed="0/practice")}
    assert not stories & {draw_problem(Random("0/corpus")).text}


def test_the_authors_are_as_careful_as_asked_for():
    """Only careful authors: every solution is right, so a tenth of the verdicts is `wrong`."""
    judged = [pair for document in some(300, careful_share=1.0) for pair in POINTWISE.findall(document.partition("\n")[2])]
    assert len(judged) > 500
    assert sum(said == " wrong" for _, said in judged) / len(judged) == pytest.approx(0.1, abs=0.05)
