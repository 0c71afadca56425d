"""The page, its numbers against the JSON, and what hostile text makes of it; a stub stands in where no figure is looked at."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from posttrain.comparison.cells import found
from posttrain.comparison.markdown import printable_all
from posttrain.comparison.sections import sections_of
from posttrain.errors import StorageError
from tasks.comparison.drawing import FIGURES, draw_figures
from tasks.comparison.page import render_page, write_page
from tasks.pages.look import Figure
from tests.fabricated_comparison import ARABIC, CODE, SIX, VARIANTS, budgets, comparison, crowd, hostile, logs, partial

STUB = {name: Figure('<svg role="img"></svg>', '<svg role="img"></svg>', "key") for name in FIGURES}
MINUTES = ("train_seconds", "evaluate_seconds", "seconds")
PREFIX = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


class Reader(HTMLParser):
    """Reads cells of tables: attributes and text of each; and counts every element."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.elements, self.texts, self._open = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("td", "th"):
            self._open = (tag, dict(attributes), [])

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._open:
            self.cells.append((self._open[0], self._open[1], "".join(self._open[2])))
            self._open = None

    def handle_data(self, data):
        self.texts.append(data)
        if self._open:
            self._open[2].append(data)


def shown(made):
    return render_page(printable_all(made), STUB)


def numbers_in(text):
    """Yield (value, half a unit of its last digit) of each number in a cell."""
    exponents = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    for sign, digits, prefix, exponent in re.findall(r"([−+]?)([\d,]*\.?\d+)(?: ([kMGT])\b| × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text):
        plain = digits.replace(",", "")
        size = PREFIX[prefix] * 10.0 ** int(exponent.translate(exponents) or 0)
        step = 10.0 ** -len(plain.partition(".")[2])
        # an amount has three figures, so "480 k" is right to half a thousand; a count of 812.0 is shown whole
        yield (-1 if sign == "−" else 1) * float(plain) * size, 0.5001 * step * size


def wanted(made, pointer, text):
    """Return the values of the JSON that a cell must show, in its unit; worked out here and not by the page's code."""
    value = found(made, pointer)
    if "/yardsticks/" in pointer or pointer.endswith(("/finished", "/share", "/win_rate")):
        factor = 100
    elif pointer.rsplit("/", 1)[-1] in MINUTES:
        factor = 1 / 60
    else:
        has_unit = re.search(
            r"/(mean|scores|accuracy|sampled|development|smallest_effect|estimate)(/\d+)?$|^/pairs/\d+$|/groups/\d+/methods/"
            r"|^/levels/\d+/value$",
            pointer,
        )
        factor = 100 if has_unit and made["design"]["unit"] == "share" else 1
    if isinstance(value, dict):
        if text.startswith("["):
            return [value["low_decides"] * factor, value["high_decides"] * factor]
        return [value[key] * factor for key in ("estimate", "low", "high")]
    return [value * factor]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_number_of_every_table_is_that_of_the_json(variant):
    made = printable_all(VARIANTS[variant]())
    compared = 0
    for tag, attributes, text in Reader(shown(made)).cells:
        pointer = attributes.get("data-from")
        text = text.replace("\u00a0", " ")
        if pointer is None:
            # words, code and dashes; a column of numbers holds no number of unknown origin
            assert tag == "th" or "n" not in attributes.get("class", "").split() or not re.search(r"\d", text), text
            continue
        value = found(made, pointer)
        assert value is not None, pointer
        if isinstance(value, str):
            assert value in text
        elif isinstance(value, list):
            # seeds and questions that would show an effect
            assert all(f"{one['seeds']:,} seeds × {one['questions']:,} questions" in text for one in value)
        elif text.startswith("< "):
            assert value < 0.001
        else:
            told, given = list(numbers_in(text)), wanted(made, pointer, text)
            assert len(told) == len(given), (text, given)
            for (number, slack), exact in zip(told, given, strict=True):
                # the grid's other side is the same pair turned round
                exact = -exact if pointer.endswith("/estimate") and number * exact < 0 else exact
                assert abs(number - exact) <= slack * (1 + 1e-6), (pointer, text, exact)
            compared += 1
    assert compared > (4 if variant == "logs" else 100)


def test_the_walk_finds_a_wrong_number():
    made = printable_all(comparison())
    text = shown(made)
    made["methods"][0]["mean"]["low"] += 0.002
    wrong = [
        attributes["data-from"]
        for _, attributes, told in Reader(text).cells
        if attributes.get("data-from") == "/methods/0/mean"
        and any(abs(n - w) > s for (n, s), w in zip(numbers_in(told), wanted(made, "/methods/0/mean", told), strict=True))
    ]
    assert wrong == ["/methods/0/mean"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_page_is_whole_and_asks_for_nothing(variant):
    made = VARIANTS[variant]()
    read = Reader(shown(made))
    tags = {tag for tag, _ in read.elements}
    assert (
        tags.isdisjoint({"img", "iframe", "object", "embed", "base", "form"})
        and [t for t, _ in read.elements].count("script") == 1
    )
    for tag, attributes in read.elements:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attributes), (tag, attributes)
        assert attributes.get("href", "#").startswith("#") or attributes["href"] == "data:,"
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {attributes["href"][1:] for tag, attributes in read.elements if tag == "a"}
    assert anchors <= set(ids) and {section.name for section in sections_of(printable_all(made))[0]} <= anchors


def test_the_policy_admits_this_style_and_this_script_alone():
    text = shown(comparison())
    policy = next(a["content"] for tag, a in Reader(text).elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "http" not in policy
    for tag in ("style", "script"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_hostile_text_is_shown_and_does_nothing():
    text = shown(hostile())
    read = Reader(text)
    said = "".join(read.texts)
    assert "<script>alert('x')</script>" in said and "\\u202e" in said and "{{ 7*7 }}" in said
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", text)
    assert text.encode("utf-8")


def test_long_text_folds_and_code_and_arabic_keep_their_direction():
    text = shown(hostile())
    assert "<em>all 100,000 characters</em>" in text and "Cut here: comparison.json has the rest." in text
    assert f'dir="auto">{ARABIC}<' in text
    assert 'class="text code" dir="ltr">def solution():' in text and "&lt;/pre&gt;" in text and CODE[:16] in text
    assert len(text) < 1_500_000


def test_a_partial_comparison_says_so_above_everything():
    text = shown(partial())
    assert text.index("<strong>Partial.</strong>") < text.index("<main") and 'href="#failed"' in text
    assert "Partial." not in shown(comparison())


def test_paper_is_light_whatever_the_screen_is():
    assert "@media screen and (prefers-color-scheme:dark)" in shown(comparison())
    assert "localStorage" not in shown(comparison())


def small():
    """Two methods on two seeds, with few points: quick to draw, with every figure."""
    made = comparison({name: SIX[name] for name in ("sft", "rlhf")}, seeds=2)
    made["design"]["budget"] = budgets()["design"]["budget"]
    made["levels"] = [row for row in budgets()["levels"] if row["method"] in ("sft", "rlhf") and row["seed"] < 2]
    for one in made["methods"]:
        for curve in one["learning"]:
            curve["points"] = curve["points"][::10]
    return made


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "new" / "folder"
    return write_page(small(), draw_figures(printable_all(small())), folder)


def test_it_writes_page_markdown_json_and_figures(written):
    names = {kind: path.name for kind, path in written.items()}
    assert names == {
        **{"page": "index.html", "markdown": "comparison.md", "json": "comparison.json"},
        **{f"figure {name}": f"{name}.svg" for name in FIGURES},
    }
    assert {path.name for path in written["page"].parent.iterdir()} == set(names.values())
    assert json.loads(written["json"].read_text()) == small()
    assert written["page"].stat().st_size < 3_000_000


def test_the_same_comparison_is_the_same_bytes(written, tmp_path):
    again = write_page(small(), draw_figures(printable_all(small())), tmp_path)
    assert {kind: path.read_bytes() for kind, path in again.items()} == {
        kind: path.read_bytes() for kind, path in written.items()
    }


def test_a_comparison_without_figures_but_the_forest(tmp_path):
    assert set(write_page(logs(), draw_figures(printable_all(logs())), tmp_path)) == {"page", "markdown", "json", "figure forest"}


def test_a_number_that_json_has_not_is_refused_before_anything_is_written(tmp_path):
    made = comparison()
    made["seconds"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_page(made, STUB, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_disk_that_refuses_is_told_and_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("old")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StorageError) as told:
        write_page(comparison(), STUB, tmp_path)
    assert str(told.value) == (
        f"{tmp_path} cannot be written: No space left on device. Free the disk or its permissions, then run again: "
        "finished runs are reused"
    )
    assert (tmp_path / "index.html").read_text() == "old"


def test_a_crowd_has_a_page():
    assert shown(crowd()).count("<tr>") > 200
