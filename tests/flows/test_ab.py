"""`make ab`: what is shown says nothing of who wrote it, what is picked is kept, and nothing trains on it."""

import errno
import io
import os
import sys
from random import Random
from types import SimpleNamespace

import pytest

from flows import ab as subject
from flows.ab import AbRequest, ab, ab_request
from posttrain.errors import DataError, RequestError, StorageError
from posttrain.labelling.ab import picks_of
from posttrain.settings.config import Config
from tasks.asking.answer import Answer
from tasks.labelling.ab import ab_file, add_pick, read_picks
from tasks.labelling.state import read_state
from tasks.labelling.terminal import pick_lines
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
        return SimpleNamespace(out=capsys.readouterr().out, said=said, kept=read_picks(paths, "world"))

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
