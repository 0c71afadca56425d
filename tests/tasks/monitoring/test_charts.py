"""The figures of a check: what vega-lite's schema takes, and what is drawn of the record."""

import re
from xml.etree import ElementTree

import pytest

from tasks.monitoring.charts import length_rows, lengths, separation
from tasks.monitoring.page import FIGURES, draw_figures
from tasks.pages.svg import SVG
from tasks.pages.theme import COLOURS, NARROW, WIDE
from tests.tasks.monitoring.checks import alike, drifted


def titles(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{{{SVG}}}title")]


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("record", [drifted, alike])
def test_the_schema_takes_it(make, width, record):
    assert make(record(), width).to_dict()["layer"]


def test_what_is_drawn():
    drawn = draw_figures(drifted())
    told = titles(drawn["separation"].wide)
    assert "new prompts: AUC 0.831, p = 0.001" in told and "held out prompts: AUC 0.491, p = 0.612" in told
    assert sum("permutations between" in one for one in told) == 6
    assert "new: median 81, half of them 65 to 113 characters" in titles(drawn["lengths"].narrow)
    for figure in drawn.values():
        for svg in (figure.wide, figure.narrow):
            colours = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', svg))
            # each has a counterpart on a dark page
            assert colours <= {colour.light for colour in COLOURS.values()}, colours
    assert 'width="' in drawn["separation"].wide


def test_colours_say_whether_it_is_a_drift():
    red, blue = COLOURS["red"].light, COLOURS["blue"].light
    assert [row["colour"] == red for row in length_rows(drifted())] == [False, True, False]
    assert [row["colour"] == blue for row in length_rows(alike())] == [False, True]


def test_an_empty_prompt_has_a_place_on_a_logarithmic_axis():
    made = drifted()
    made["figures"]["new"]["length"]["5"] = 0.0
    assert length_rows(made)[1]["p5"] == 1.0
    assert lengths(made, WIDE).to_dict()


def test_permutations_that_are_all_one_value_are_drawn():
    made = alike()
    made["permuted"] = [{"low": 0.5, "high": 0.5, "count": 99}]
    made["test"]["auc"] = 0.5
    assert separation(made, NARROW).to_dict()
