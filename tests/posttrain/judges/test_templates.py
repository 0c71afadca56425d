"""Template files: the ones that come with the repository, and what is wrong with others."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from posttrain.errors import RequestError
from posttrain.judges.templates import template_of

JUDGES = Path(__file__).resolve().parents[3] / "data" / "judges"
PAIRWISE = {"question": "{prompt} {first} {second}", "ending": "Better:", "options": [" A", " B"]}
POINTWISE = {"question": "{prompt} {response}", "ending": "Score:", "options": {" 1": 1, " 10": 10}}


def told(*, pairwise=None, pointwise=None, **more):
    return {"pairwise": PAIRWISE | (pairwise or {}), "pointwise": POINTWISE | (pointwise or {}), **more}


def test_the_default_is_what_the_tiny_base_has_read(world_records):
    """A review in the corpus is a rendered question with an option behind it, to the letter."""
    file = yaml.safe_load((JUDGES / "review.yaml").read_text())
    pairwise, pointwise = (template_of(file, name=name, file="review") for name in ("pairwise", "pointwise"))
    documents = [one.text for one in world_records["corpus"] if "Better: " in one.text or "Verdict: " in one.text]
    assert len(documents) > 20
    for text in documents:
        if "Better: " in text:
            head, first, rest = text.split("\nA: ")[0], *text.split("\nA: ")[1].split("\nB: ")
            second, answer = rest.split("\nBetter:")
            template, asked = pairwise, pairwise.rendered(prompt=head, first=first, second=second)
        else:
            (head, response), answer = text.split("\nVerdict:")[0].split("\n"), text.split("\nVerdict:")[1]
            template, asked = pointwise, pointwise.rendered(prompt=head, response=response)
        assert asked + template.ending + answer == text and answer in template.options


def test_the_options_mean_what_the_reviews_mean():
    file = yaml.safe_load((JUDGES / "review.yaml").read_text())
    assert template_of(file, name="pairwise", file="review").options == {" A": 1.0, " B": 0.0}
    assert template_of(file, name="pointwise", file="review").options == {" right": 10.0, " wrong": 1.0}


@pytest.mark.parametrize("name", ["pairwise", "pointwise"])
def test_the_constitution_shows_its_principles_once(name):
    file = yaml.safe_load((JUDGES / "constitution.yaml").read_text())
    template = template_of(file, name=name, file="constitution", reasoning=True)
    assert template.is_chat and template.think.strip()
    for number, principle in enumerate(file["principles"], start=1):
        assert (template.system + template.question).count(f"{number}. {' '.join(principle.split())}") == 1
    if name == "pointwise":
        assert template.options == {f" {number}": float(number) for number in range(1, 11)}


def test_braces_survive():
    template = template_of(
        told(pairwise={"question": "{{json}} {prompt} {first} {second} {principles}"}, principles=["no {braces}"]),
        name="pairwise",
        file="f",
    )
    assert template.rendered(prompt="{p}", first="{{", second="}") == "{json} {p} {{ } 1. no {braces}"


@given(st.text(), st.text(), st.text())
def test_whatever_is_judged_stands_as_it_is(prompt, first, second):
    template = template_of(told(), name="pairwise", file="f")
    assert template.rendered(prompt=prompt, first=first, second=second) == f"{prompt} {first} {second}"


NO_SCORES = 'f: pointwise.options must map two answers or more to scores of 1 to 10, such as {" right": 10, " wrong": 1}, got '
NO_PLACES = 'f: pairwise.options must be two answers, for the first place and for the second, such as [" A", " B"], got '
BRACES = "{principles}, {prompt}, {first}, {second}; a brace that is meant as one is written twice"
MODE = "question, think, ending, options"
FIELDS = "says, system, chat, principles, pairwise, pointwise"


@pytest.mark.parametrize(
    ("file", "mode", "message"),
    [
        ([], "pairwise", f"f: a judge is a mapping with {FIELDS}, got list: docs/judges.md"),
        (told(principals=[]), "pairwise", f"f: there is no field principals; did you mean principles? It has {FIELDS}"),
        (
            told(pairwise={"endings": "x"}), "pairwise",
            f"f: pairwise: there is no field endings; did you mean ending? It has {MODE}",
        ),
        (
            {"pairwise": PAIRWISE}, "pointwise",
            "f: there is no pointwise, which judge.mode=pointwise asks for. It has pairwise: set judge.mode=pairwise, or add "
            "pointwise: docs/judges.md",
        ),
        ({}, "pairwise", "f: there is no pairwise, which judge.mode=pairwise asks for. Add pairwise: docs/judges.md"),
        ({"pairwise": "x"}, "pairwise", f"f: pairwise must be a mapping with {MODE}, got str: docs/judges.md"),
        (
            told(pairwise={"ending": " "}), "pairwise",
            "f: pairwise.ending is empty, and without it there is nothing to ask. Write it: docs/judges.md",
        ),
        (told(pairwise={"ending": 5}), "pairwise", "f: pairwise.ending must be text, got int: put it in quotes, or behind a |"),
        (told(chat="yes"), "pairwise", "f: chat must be true or false, got 'yes'"),
        (
            told(system="By {principles}", principles=[]), "pairwise",
            "f: principles is empty, and pairwise shows {principles}. Write what to judge by, one principle a line behind a dash,"
            " or take {principles} out",
        ),
        (
            told(principles=["Be kind."]), "pairwise",
            "f: pairwise shows {principles} nowhere, so they would count for nothing. Put it in, say in system",
        ),
        (
            told(system="{principles}", principles="Be kind."), "pairwise",
            "f: principles must be a list of sentences, one a line behind a dash, got 'Be kind.'",
        ),
        (
            told(pairwise={"question": "{prompt} {frist} {second}"}), "pairwise",
            f"f: pairwise.question: there is no placeholder {{frist}}; did you mean first? It takes {BRACES}",
        ),
        (
            told(pairwise={"question": "{prompt!r} {first} {second}"}), "pairwise",
            f"f: pairwise.question: there is no placeholder {{prompt!r}}; did you mean prompt? It takes {BRACES}",
        ),
        (
            told(pairwise={"ending": "{prompt}:"}), "pairwise",
            "f: pairwise.ending: there is no placeholder {prompt}. It takes {principles}; a brace that is meant as one is"
            " written twice",
        ),
        (
            told(pairwise={"question": "{prompt} {first}"}), "pairwise",
            "f: pairwise.question does not show {second}, so the judge would not see it. Put it in",
        ),
        (
            told(pairwise={"question": "{prompt} {first} {second} {"}), "pairwise",
            "f: pairwise.question: Single '{' encountered in format string. A brace that is meant as one is written twice: "
            "{{ or }}",
        ),
        (told(pairwise={"options": [" A"]}), "pairwise", NO_PLACES + "[' A']"),
        ({"pairwise": {"question": "{prompt}{first}{second}", "ending": "x"}}, "pairwise", NO_PLACES + "None"),
        (
            told(pairwise={"options": [" A", "a "]}), "pairwise",
            "f: pairwise.options: no answer may be empty, and no two the same word, got [' A', 'a ']",
        ),
        (told(pointwise={"options": [" 1"]}), "pointwise", NO_SCORES + "[' 1']"),
        (told(pointwise={"options": {" 1": 0, " 2": 2}}), "pointwise", NO_SCORES + "{' 1': 0, ' 2': 2}"),
        (told(pointwise={"options": {" 1": True, " 2": 2}}), "pointwise", NO_SCORES + "{' 1': True, ' 2': 2}"),
        (
            told(pointwise={"options": {" 1": 2, " 2": 2}}), "pointwise",
            "f: pointwise.options: all answers have one score, so none is better than another, got {' 1': 2, ' 2': 2}",
        ),
    ],
)  # fmt: skip
def test_a_faulty_file_is_told_by_field_rule_and_remedy(file, mode, message):
    with pytest.raises(RequestError) as caught:
        template_of(file, name=mode, file="f")
    assert str(caught.value) == message


def test_reasoning_needs_words_that_ask_for_it():
    with pytest.raises(RequestError) as caught:
        template_of(told(), name="pairwise", file="f", reasoning=True)
    assert str(caught.value) == (
        "f: pairwise.think is empty, and judge.reasoning=true lets the judge think aloud. Write what asks it to, or set "
        "judge.reasoning=false"
    )
