"""No text makes a grader work long: no pattern can backtrack far, the steps of a grade do not grow with the text, nor its memory.

Work is counted, never timed: the repeats of a pattern by their bounds, the steps of Python by line. The same texts are timed by
`python -m benchmarks.graders hostile`.
"""

import importlib
import pkgutil
import re
import sys
import tracemalloc
from re import _constants as code
from re import _parser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import posttrain.graders
from benchmarks.hostile_texts import ANSWERS, AROUND, FRAGMENTS, hostile_texts
from posttrain.graders import Sample, build_grader

OF_SETTINGS = {"templates", "sandbox", "latex_worker", "schema", "build", "compose", "model", "tally", "interface"}
"""Modules whose patterns read settings, programs within their own limits, or nothing."""
MODULES = [each.name for each in pkgutil.iter_modules(posttrain.graders.__path__) if each.name not in OF_SETTINGS]
PATTERNS = {
    f"{name}.{attribute}": value
    for name in MODULES
    for attribute, value in vars(importlib.import_module(f"posttrain.graders.{name}")).items()
    if isinstance(value, re.Pattern)
}
FEW = 6
"""Ways in which a repeat may be shortened one by one; more must be possessive, which never gives back."""
MANY = 500


def faults(tree, *, is_last=True, is_first=True):
    """Yield what in a parsed pattern could make it search long: a repeat that backtracks far, or one without end."""
    for place, (kind, argument) in enumerate(tree):
        ends = is_last and place == len(tree) - 1
        if kind in (code.MAX_REPEAT, code.MIN_REPEAT, code.POSSESSIVE_REPEAT):
            low, high, inner = argument
            if kind != code.POSSESSIVE_REPEAT and high - low > FEW:
                yield f"a repeat {low} to {high} that may be shortened"
            if high > MANY and is_first and not place and not ends and kind == code.POSSESSIVE_REPEAT:
                yield "an endless repeat at the beginning, which a search tries anew at every place"
            if high > MANY and not (kind == code.POSSESSIVE_REPEAT and len(inner) == 1 and inner[0][0] in ONE_CHARACTER):
                yield f"a repeat of up to {high} of more than one character"
            yield from faults(inner, is_last=ends, is_first=False)
        elif kind == code.SUBPATTERN:
            yield from faults(argument[-1], is_last=ends, is_first=is_first and not place)
        elif kind == code.BRANCH:
            for branch in argument[1]:
                yield from faults(branch, is_last=ends, is_first=is_first and not place)
        elif kind in (code.ASSERT, code.ASSERT_NOT):
            yield from faults(argument[1], is_last=False, is_first=False)
        elif kind == code.ATOMIC_GROUP:
            yield from faults(argument, is_last=False, is_first=False)


ONE_CHARACTER = {code.LITERAL, code.NOT_LITERAL, code.IN, code.ANY, code.CATEGORY}


def parsed(pattern):
    return _parser.parse(pattern.pattern, pattern.flags)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_can_backtrack_far(name):
    assert list(faults(parsed(PATTERNS[name]))) == []


@pytest.mark.parametrize(
    "text",
    [r"\s*x", r"(?:a+)+b", r"\\frac\s*\{", r"a{0,40}b", r"(?!.*no)\w", r"x|\s+$", r"(?:ab)++", r"\s++x", r"(?:\d++|y)x"],
)
def test_a_careless_pattern_is_found(text):
    assert list(faults(parsed(re.compile(text))))


@pytest.mark.parametrize("text", [r"\s{0,9}+x", r"\d++", r"\d{1,3}(?:,\d{3}){1,99}+", r"a?b?c?"])
def test_a_careful_pattern_passes(text):
    assert not list(faults(parsed(re.compile(text))))


@pytest.mark.parametrize("name", MODULES)
def test_patterns_are_where_this_test_sees_them(name):
    """A pattern that is written into a call would be seen by nobody."""
    source = importlib.import_module(f"posttrain.graders.{name}").__loader__.get_source(f"posttrain.graders.{name}")
    assert not re.findall(r"\bre\.(?:sub|search|match|fullmatch|findall|finditer|split)\(.*", source)


def lines_run(work):
    """Return how many lines of the graders' own code some work runs through."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if "/graders/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.fixture(scope="module")
def grader():
    return build_grader({"type": "answer", "latex": False})


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=ascii)
def test_steps_do_not_grow_with_the_text(fragment, grader):
    for before, behind in AROUND[:6]:
        text = before + (fragment * (200_000 // len(fragment))) + behind
        steps = lines_run(lambda text=text: grader.grade([Sample(text, {"answers": answers}) for answers in ANSWERS]))
        assert steps < 100_000, (before, fragment, behind)


@pytest.mark.parametrize(("size", "around"), [(20_000, AROUND[:5]), (200_000, AROUND[2:3])])
def test_no_hostile_text_is_right_by_itself_or_takes_much_memory(size, around, grader):
    """The right answer, 7.5, stands in none of these texts; and what a text takes is a few times itself, at most 50 MB."""
    tracemalloc.start()
    try:
        for name, text in hostile_texts(size, around):
            tracemalloc.reset_peak()
            held = tracemalloc.get_traced_memory()[0]
            (found,) = grader.grade([Sample(text, {"answers": ["7.5"]})])
            taken = tracemalloc.get_traced_memory()[1] - held
            assert not found.is_right and found.reason, name
            assert taken < 50_000_000, (name, taken)
            assert len(str(found.as_row())) < 4_000, name
    finally:
        tracemalloc.stop()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=4).map("".join),
    st.sampled_from(AROUND),
    st.sampled_from(ANSWERS),
    st.integers(1, 40_000),
)
def test_mixtures_of_fragments_neither_break_a_grader_nor_make_it_work_long(grader, unit, around, answers, times):
    text = around[0] + (unit * times)[:120_000] + around[1]
    grades = []
    steps = lines_run(lambda: grades.extend(grader.grade([Sample(text, {"answers": answers})])))
    assert steps < 60_000
    assert grades[0].is_right in (True, False)


@given(st.text(max_size=200), st.sampled_from(ANSWERS))
def test_any_text_gets_a_verdict_with_a_reason(grader, text, answers):
    (found,) = grader.grade([Sample(text, {"answers": answers})])
    assert found.reason
