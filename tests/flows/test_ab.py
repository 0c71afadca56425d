"""`make ab`: what is shown says nothing of who wrote it, what is picked is kept, and nothing trains on it."""

import errno
import io
import os
import sys
from random import Random
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows import ab as subject
from flows.ab import AbRequest, ab, ab_request
from posttrain.errors import DataError, RequestError, StorageError
from posttrain.labelling.ab import picks_of, thumbs_of
from posttrain.settings.config import Config
from tasks.asking.answer import Answer
from tasks.labelling.ab import THUMBS, ab_file, add_pick, add_thumb, read_picks, read_thumbs
from tasks.labelling.state import read_state
from tasks.labelling.terminal import pick_lines, print_state, thumb_lines
from tasks.workspace.paths import Paths
from tests.flows.test_ask import _quiet, house  # noqa: F401 - fixtures
from tests.tasks.promotion.versions import NAME

NAMES = ("challenger", "champion")
URIS = {"challenger": "models:/m/10", "champion": "models:/m/9"}


class Model:
    """Answers with its name's length and the prompt; "same" makes both say one thing, "long" fills the context."""

    def __init__(self, name):
        self.name = name

    def check_room(self, prompt):
        if prompt == "long":
            raise RequestError(f"{self.name}: the prompt has 9 tokens and the context 8")

    def answer(self, prompt, *, temperature, seed, name, hear):
        text = "same" if prompt == "same" else f"{'new' if self.name == 'challenger' else 'old'} {prompt}"
        return Answer(text, tokens=7777, seconds=9.9, is_finished=self.name == "champion")


@pytest.fixture
def comparing(tmp_path, monkeypatch, capsys):
    """Type lines and return what was printed, what was said and what was kept; the first seed puts the challenger left."""
    monkeypatch.setattr(subject, "named_model", lambda paths, config, name, say, is_limit_given: name)
    monkeypatch.setattr(subject, "version_uri", lambda paths, config, name: URIS[name])
    monkeypatch.setattr(subject, "Loaded", SimpleNamespace(of=Model))
    paths = Paths(tmp_path)

    def run(*lines, names=NAMES, seed=0):
        said = []
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        ab(paths, Config(), AbRequest(names, "Ada", 0.0, False), said.append, random=Random(seed))
        return SimpleNamespace(
            out=capsys.readouterr().out, said=said, kept=read_picks(paths, "world"), thumbs=read_thumbs(paths, "world")
        )

    run.paths = paths
    return run


def test_a_pick_is_a_label_of_no_question(comparing):
    done = comparing("How many?", "1", "And now?", "=", "q")
    one, other = done.kept
    assert (one.source, one.selection, one.annotator, one.prompt) == ("person", "ab", "Ada", "How many?")
    assert one.question.startswith("ab/") and one.question != other.question and one.id != other.id
    assert (one.preference, other.preference) == (1.0, 0.5)
    assert {one.first_model, one.second_model} == set(URIS.values())
    assert one.seconds >= 0 and one.at.endswith("+00:00")
    texts = {one.first_model: (one.first, one.first_finished), one.second_model: (one.second, one.second_finished)}
    assert texts == {"models:/m/10": ("new How many?", False), "models:/m/9": ("old How many?", True)}


def test_nothing_says_who_wrote_what(comparing):
    done = comparing("How many?", "s")
    assert "--- 1\n" in done.out and "--- 2\n" in done.out
    for word in ("challenger", "champion", "models:/", "7,777", "9.9"):
        assert word not in done.out


def test_who_stands_left_is_chance(comparing):
    lefts = {comparing("How many?", "1", seed=seed).kept[-1].first_model for seed in range(12)}
    assert lefts == set(URIS.values())


def test_what_gives_no_pick(comparing):
    done = comparing("same", "long", "", "How many?", "3", "s", "How many?")
    assert done.kept == [] and "0 picks kept" in done.out
    assert done.said == [
        "note: both gave the same answer, so there is nothing to pick",
        "request: the prompt does not fit: the prompt has 9 tokens and the context 8",
    ]
    assert done.out.count("1 or 2: that one is better") == 2  # at the beginning, and behind the 3


def test_the_summary_counts_the_newer_version_and_each_prompt_once(comparing):
    """The challenger wins 1 on a, 1 on b, and 1/2 and 0 on c: (1 + 1 + 1/4) / 3, over three prompts."""
    (kept,) = comparing("How many?", "1").kept
    ab_file(comparing.paths, "world").unlink()
    is_left = kept.first_model == URIS["challenger"]
    for number, (prompt, won) in enumerate((("a", 1.0), ("b", 1.0), ("c", 0.5), ("c", 0.0))):
        changed = {"id": f"ab/{number}", "question": f"ab/{prompt}", "preference": won if is_left else 1 - won}
        add_pick(comparing.paths, "world", kept.model_copy(update=changed))
    # and once the other way round, which is the same pick of b
    turned = {"id": "ab/9", "question": "ab/b", "first_model": kept.second_model, "second_model": kept.first_model}
    add_pick(comparing.paths, "world", kept.model_copy(update={**turned, "preference": 0.0 if is_left else 1.0}))
    (one,) = picks_of(read_picks(comparing.paths, "world"))
    assert (one.one, one.other, one.picks, one.equals, one.prompts) == ("models:/m/10", "models:/m/9", 5, 1, 3)
    assert one.wins.estimate == pytest.approx((1 + 1 + 0.25) / 3) and one.wins.low < 0.5 < one.wins.high
    (line,) = pick_lines([one])
    assert line.startswith("A/B: models:/m/10 won 75 [") and line.endswith("of 5 picks on 3 prompts (1 equal)")
    state = read_state(comparing.paths, "world")
    assert (state.labels, [pick.picks for pick in state.picks], state.as_json()["ab"][0]["picks"]) == (0, [5], 5)


def test_a_thumb_is_of_one_answer_and_leaves_the_pick_open(comparing):
    """Both are thumbed, one of them twice, the last of which counts; the pick comes in the same line as a thumb."""
    done = comparing("How many?", "+1 -2", "+2", "1 ", "And now?", "-1 s", "Really?", "+2 =")
    assert [label.preference for label in done.kept] == [1.0, 0.5]
    first = done.thumbs[:3]
    assert [thumb.is_good for thumb in first] == [True, False, True] and first[1].id == first[2].id != first[0].id
    shown = {(done.kept[0].first_model, done.kept[0].first), (done.kept[0].second_model, done.kept[0].second)}
    assert {(thumb.model, thumb.response) for thumb in first} == shown
    for thumb in first:
        assert (thumb.prompt, thumb.question, thumb.annotator) == ("How many?", done.kept[0].question, "Ada")
        assert (thumb.source, thumb.finished) == ("person", thumb.model == "models:/m/9")
        assert thumb.at.endswith("+00:00") and thumb.seconds >= 0
    assert "2 picks and 4 thumbs kept" in done.out and "A/B: models:/m/10 has thumbs up on " in done.out


def test_what_is_no_opinion_keeps_nothing(comparing):
    done = comparing("How many?", "+3", "+", "1 +1", "1 2", "+1 3", "s +1")
    assert (done.kept, done.thumbs, done.out.count("1 or 2: that one is better")) == ([], [], 7)


def test_q_ends_it_where_an_opinion_is_asked_too(comparing):
    done = comparing("How many?", "+1", "q", "And now?", "1")
    assert done.kept == [] and len(done.thumbs) == 1 and "0 picks and 1 thumb kept" in done.out


def test_thumbs_are_counted_by_model_and_each_prompt_once(comparing):
    """Version 10: up on a; up and down on b: (1 + 1/2) / 2. Version 9: down on a, after an up that was taken back."""
    (thumb,) = comparing("a", "+1", "s").thumbs
    ab_file(comparing.paths, "world", THUMBS).unlink()
    rows = [("10", "a", True), ("10", "b", True), ("10", "b", False), ("9", "a", True), ("9", "a", False)]
    for number, (version, prompt, is_good) in enumerate(rows):
        own = {"id": f"ab/{min(number, 3)}/1", "model": f"models:/m/{version}", "question": f"ab/{prompt}", "is_good": is_good}
        add_thumb(comparing.paths, "world", thumb.model_copy(update=own))
    new, old = thumbs_of(read_thumbs(comparing.paths, "world"))
    assert (new.model, new.thumbs, new.prompts, new.up.estimate) == ("models:/m/10", 3, 2, 0.75)
    assert (old.model, old.thumbs, old.prompts, old.up.estimate) == ("models:/m/9", 1, 1, 0.0)
    line, _ = thumb_lines([new, old])
    assert line.startswith("A/B: models:/m/10 has thumbs up on 75 [") and line.endswith(
        "% of its answers, of 3 thumbs on 2 prompts"
    )
    state = read_state(comparing.paths, "world")
    assert state.labels == 0 and [one["thumbs"] for one in state.as_json()["thumbs"]] == [3, 1]
    told = io.StringIO()
    print_state(state, console=Console(file=told, width=200))
    assert line in told.getvalue()


def test_damaged_thumbs_are_named(comparing):
    comparing("a", "+1", "s")
    file = ab_file(comparing.paths, "world", THUMBS)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"half')
    assert len(read_thumbs(comparing.paths, "world")) == 1
    file.write_bytes(whole + whole.replace(b'"is_good":true', b'"is_good":"perhaps"'))
    with pytest.raises(DataError, match=r"labelling/world/thumbs\.jsonl: line 2 cannot be used: is_good: Input should"):
        read_thumbs(comparing.paths, "world")


def test_half_a_line_is_cut_off_and_a_full_disk_leaves_the_file(comparing, monkeypatch):
    (kept,) = comparing("How many?", "1").kept
    file = ab_file(comparing.paths, "world")
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"half')
    assert read_picks(comparing.paths, "world") == [kept]
    second = kept.model_copy(update={"id": "ab/2"})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            add_pick(comparing.paths, "world", second)
    assert file.read_bytes() == whole
    add_pick(comparing.paths, "world", second)
    assert read_picks(comparing.paths, "world") == [kept, second]
    file.write_bytes(b"x\n" + whole)
    with pytest.raises(DataError, match=r"labelling/world/ab\.jsonl: 1 of 2 labels cannot be used"):
        read_picks(comparing.paths, "world")


def test_one_model_twice_is_refused(comparing, monkeypatch):
    monkeypatch.setitem(URIS, "challenger", "models:/m/9")
    with pytest.raises(RequestError, match="challenger and champion are one and the same model, models:/m/9"):
        comparing("How many?")


@pytest.mark.parametrize("models", ["champion", "3 3", "1 2 3"])
def test_two_models_are_named(models):
    with pytest.raises(
        RequestError, match=f'MODELS must name two models, got {models}. For instance: MODELS="challenger champion"'
    ):
        ab_request({"models": models}, [])


def test_what_the_words_ask_for():
    request = ab_request({"models": "base,3", "name": " Ada ", "temperature": "0.5"}, ["evaluate.max_new_tokens=9"])
    assert request == AbRequest(("base", "3"), "Ada", 0.5, True)
    assert ab_request({}, []).names == NAMES and ab_request({}, []).annotator


@pytest.mark.slow
def test_real_models_answer(house, monkeypatch, capsys):  # noqa: F811
    """A version by its alias, and a stage of the last run by its name."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is 2 + 3?\n2\nq\n"))
    ab(house, Config(), AbRequest(("champion", "base"), "Ada", 1.0, False), print)
    out = capsys.readouterr().out
    kept = read_picks(house, "world")
    if "both gave the same answer" not in out:
        assert {kept[0].first_model, kept[0].second_model} == {f"models:/{NAME}/1", "base"} and kept[0].preference == 0.0
    assert f"{len(kept)} pick" in out and ab_file(house, "world").exists() == bool(kept)
