"""The page of a check: its numbers are those of the JSON, hostile text is shown as text, no script may run, files are whole."""

import json
import re
from html.parser import HTMLParser

import pytest

from posttrain.comparison.cells import found
from posttrain.comparison.markdown import printable_all
from posttrain.errors import StorageError
from tasks.monitoring import page
from tasks.monitoring.page import as_markdown, render_page, write_check
from tasks.monitoring.words import KEYS, SAYS, sections_of, sentence_of
from tasks.pages.look import Figure
from tasks.workspace.paths import Paths
from tests.tasks.monitoring.checks import HOSTILE, alike, drifted, fallen, hostile

STUB = {name: Figure('<svg role="img"></svg>', '<svg role="img"></svg>', key) for name, key in KEYS.items()}
VARIANTS = {"drifted": drifted, "alike": alike, "fallen": fallen, "hostile": hostile}
IN_PERCENT = ("foreign_share", "in_training", "unseen_words", "finished", "smallest_fall")
OTHERS_IN_PERCENT = r"^/words/\d+/(new|training)$|^/score/.*/(estimate|low|high)$"


class Reader(HTMLParser):
    """Reads cells of tables with their attributes, and every element."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.elements, self._open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("td", "th"):
            self._open = (dict(attributes), [])

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._open:
            self.cells.append((self._open[0], "".join(self._open[1])))
            self._open = None

    def handle_data(self, data):
        if self._open:
            self._open[1].append(data)


def shown(record):
    return render_page(printable_all(record), STUB)


def disagreements(record):
    """Return how many cells name a place in the JSON, and those whose number is not what stands there."""
    read, wrong = 0, []
    for attributes, text in Reader(shown(record)).cells:
        pointer = attributes.get("data-from")
        if pointer is None:
            continue
        read += 1
        value = found(printable_all(record), pointer)
        is_percent = pointer.endswith(IN_PERCENT) or re.search(OTHERS_IN_PERCENT, pointer)
        told = text.replace("−", "-").replace(",", "")
        digits = len(told.partition(".")[2])
        if float(told) != pytest.approx(value * (100 if is_percent else 1), abs=0.5001 * 10.0**-digits):
            wrong.append((pointer, text, value))
    return read, wrong


@pytest.mark.parametrize(("variant", "cells"), [("drifted", 60), ("alike", 35), ("fallen", 51), ("hostile", 76)])
def test_every_number_of_every_table_is_that_of_the_json(variant, cells):
    read, wrong = disagreements(VARIANTS[variant]())
    assert read >= cells and not wrong


def test_the_walk_finds_a_wrong_number(monkeypatch):
    made, text = drifted(), shown(drifted())
    made["test"]["auc"] += 0.02
    monkeypatch.setattr(f"{__name__}.shown", lambda record: text)
    assert [pointer for pointer, _, _ in disagreements(made)[1]] == ["/test/auc"]


def test_the_verdict_stands_first_and_a_warning_above_the_test():
    text = shown(alike())
    assert '<h1 dir="auto">No drift is seen: AUC 0.51, p = 0.400.</h1>' in text
    assert '<li class="warning" dir="auto">Warning: The dataset has 0 different held-out prompts</li>' in text
    assert "No word stands much more often on one side." in text


def test_a_score_stands_beside_the_verdict_and_an_alarm_before_what_is_none():
    made = fallen()
    says = made["score"]["says"]
    first = says.replace("'", "&#39;")
    assert f'<h1 dir="auto">{first}. No drift is seen: AUC 0.51, p = 0.400.</h1>' in shown(made)
    assert sentence_of(made | {"is_drift": True}) == f"No drift is seen: AUC 0.51, p = 0.400. {says}"
    text = as_markdown(made)
    assert text.splitlines()[2] == f"**{says}. No drift is seen: AUC 0.51, p = 0.400.**"
    assert "1,204 rows of the file have an answer. 31 of them stand in the dataset, and were not asked." in text
    assert "| Fresh questions | 500 | 497 | 71.2 | 67.1 | 75.0 | 93.4 |" in text
    assert "| Held-out questions of its evaluation | 1,000 | 996 | 84.3 | 81.9 | 86.4 | 98.7 |" in text
    assert "| Fresh − held out | −13.1 | −17.7 | −8.6 | 8.5 |" in text
    assert "An alarm is raised where the whole interval lies below −2." in text and "Intervals of 95 %" in text
    assert "| Ann has 3 apples | 4 | That makes 5 |" in text and "- champion: version 7 of posttrain-mine" in text
    made["score"] |= {"wrong": [], "known": 0, "smallest_fall": None, "warnings": ["3 of the fresh questions"]}
    text = as_markdown(made)
    assert "Some that it answers wrong" not in text and "were not asked" not in text and "- Warning: 3 of the fresh" in text
    assert "| Fresh − held out | −13.1 | −17.7 | −8.6 | – |" in text


def test_why_there_is_no_score_is_said():
    assert "There is no score: the file has no answers." in as_markdown(drifted())
    before = {name: value for name, value in drifted().items() if name not in ("score", "unscored", "alarms")}
    assert "The champion" not in as_markdown(before), "of a check that knew nothing of scores"


def test_nothing_of_others_becomes_markup():
    text = shown(hostile())
    elements = Reader(text).elements
    assert not [tag for tag, _ in elements if tag in ("img", "script", "iframe")]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert "\u202e" not in text and "\x1b" not in text and "\\u202egnp" in text
    markdown = as_markdown(printable_all(hostile()))
    assert "[link](" not in markdown and "<img" not in markdown and "\u202e" not in markdown


def test_no_script_may_run_and_nothing_is_loaded():
    elements = Reader(shown(drifted())).elements
    (policy,) = [one["content"] for tag, one in elements if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "script-src" not in policy
    assert not [one for _, one in elements if str(one.get("href", "")).startswith("http") or "src" in one]


def test_the_markdown_has_every_section_and_number():
    text = as_markdown(drifted())
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [one.title for one in sections_of(drifted())]
    assert "| new against training | 203 | 1,000 | 0.83 | 0.001 | 0.54 | 66.2 |" in text
    assert "| bitte | 31.4 | 0.0 | +8.76 |" in text and "| apples | 9.7 | 40.2 | −6.54 |" in text
    assert "- again: make monitor FILE=prompts.jsonl DATA=mine" in text


def test_the_figures_in_words():
    assert SAYS["separation"](drifted()) == (
        "Permuted labels give an AUC up to 0.54 in all but 5 % of 168 permutations; new prompts have 0.83, held-out prompts 0.49 "
        "(of their own permutations 0.55)."
    )
    assert (
        SAYS["lengths"](alike())
        == "Median characters of a prompt, and the middle half: training 50 (40 to 70); new 81 (65 to 113)."
    )


def test_files_are_written_and_the_last_check_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "draw_figures", lambda record: STUB)
    files = write_check(Paths(tmp_path), drifted())
    folder = tmp_path / "reports" / "monitor" / "20261128-221500-3f2a"
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "monitor.md",
        "monitor.json",
        "separation.svg",
        "lengths.svg",
    }
    assert set(files.values()) == set(folder.iterdir())
    assert json.loads(files["json"].read_text()) == json.loads((folder.parent / "latest.json").read_text()) == drifted()
    write_check(Paths(tmp_path), drifted() | {"id": "20261128-221501-0000"})
    assert json.loads((folder.parent / "latest.json").read_text())["id"] == "20261128-221501-0000"


def test_a_disk_that_is_full_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "draw_figures", lambda record: STUB)

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "write_whole", full)
    with pytest.raises(StorageError, match="the check: the disk is full"):
        write_check(Paths(tmp_path), drifted())


def test_what_is_no_number_is_refused_before_anything_is_written(tmp_path):
    made = drifted()
    made["test"]["auc"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_check(Paths(tmp_path), made)
    assert not list(tmp_path.iterdir())


def test_hostile_text_is_what_it_is():
    assert "<img" in HOSTILE and "\u202e" in HOSTILE, "else the tests above prove nothing"
