"""Words behind a verb: what is understood, what is refused, and the help that one table gives."""

from typing import get_args

import pytest

from flows import __main__ as subject
from flows.__main__ import main
from flows.verbs import OF_FLOWS, VERBS, help_of, joined, markdown, notes_of_unread, overview, refuse_variables, words_of
from posttrain.errors import RequestError
from posttrain.methods import METHODS
from posttrain.settings.config import merge
from posttrain.settings.feedback import LabelSettings


def test_the_table_has_the_verbs_that_run():
    assert tuple(subject.VERBS) == OF_FLOWS


def test_the_table_has_the_methods_that_there_are():
    named = next(word for word in VERBS["pipeline"].words if word.name == "METHOD").says
    assert set(named.replace(" or ", ", ").split(";")[0].split(", ")) == set(METHODS)


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["METHOD=DPO"], ["method=DPO"]),
        (["METHOD=sft", "DATA=mine"], ["method=sft", "data.name=mine"]),
        (["SET=dpo.beta=0.2 seed=1"], ["dpo.beta=0.2", "seed=1"]),
        (["SET="], []),
        (["SET=  dpo.beta = 0.2   seed= 1 sft.epochs =2 "], ["dpo.beta=0.2", "seed=1", "sft.epochs=2"]),
        (["SET=ppo.reward='python:my rewards:score' seed=1"], ["ppo.reward=python:my rewards:score", "seed=1"]),
        (["SET=labels.file= seed=1"], ["labels.file=", "seed=1"]),
        (["SET=seed=1\ndpo.beta=0.2"], ["seed=1", "dpo.beta=0.2"]),
        (["SET=tracking.uri = http://x/?a=b"], ["tracking.uri=http://x/?a=b"]),
        (["dpo.beta", "=", "0.2", "seed", "=1"], ["dpo.beta=0.2", "seed=1"]),
        (["method=sft", "SET=seed=1", "seed=2"], ["method=sft", "seed=1", "seed=2"]),
        (["seed"], ["seed"]),
        (["SET=$(touch x) `touch x`"], ["$(touch", "x)", "`touch", "x`"]),
    ],
)
def test_words_of_a_verb_with_settings(words, read):
    assert words_of("pipeline", words) == read


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["FORMAT=GSM8K", "FILE=My File.jsonl", "NAME=Mine"], ["format=gsm8k", "file=My File.jsonl", "name=Mine"]),
        (["format=Gsm8k", "Map=prompt=question completion=answer"], ["format=gsm8k", "map=prompt=question completion=answer"]),
        (["SKIP_BAD=1", "FILE=a=b"], ["skip_bad=1", "file=a=b"]),
        (["file", "=", "x"], ["file=x"]),
        (["format="], ["format="]),
    ],
)
def test_words_of_import(words, read):
    assert words_of("import", words) == read


@pytest.mark.parametrize(
    ("verb", "word", "sentence"),
    [
        (
            "import",
            "FROMAT=gsm8k",
            "import takes FORMAT, FILE, NAME, MAP, HELD_OUT and SKIP_BAD, not FROMAT; did you mean FORMAT?",
        ),
        ("import", "SET=seed=1", "import takes FORMAT, FILE, NAME, MAP, HELD_OUT and SKIP_BAD, not SET"),
        ("grade", "DATA=x", "grade takes GRADER, FILE, OUT and FORCE, not DATA"),
        ("grade", "GRADR=x", "grade takes GRADER, FILE, OUT and FORCE, not GRADR; did you mean GRADER?"),
        ("pipeline", "METHOD=", "METHOD must not be empty: leave it out, or give it a value; is a script's variable unset?"),
        ("data", "DATA= ", "DATA must not be empty: leave it out, or give it a value; is a script's variable unset?"),
        ("pipeline", "SET='a", "SET must close the quotation marks that it opens, got 'a"),
    ],
)
def test_words_that_a_verb_does_not_take(verb, word, sentence):
    with pytest.raises(RequestError) as told:
        words_of(verb, [word])
    assert str(told.value) == sentence


@pytest.mark.parametrize("verb", ["ui", "data", "validate"])
def test_a_word_of_another_verb_is_no_setting(verb):
    with pytest.raises(RequestError, match="there is no setting FORMAT"):
        merge({}, words_of(verb, ["FORMAT=gsm8k"]))


def test_a_word_is_put_together_once():
    assert joined(["a", "=", "=", "b"]) == ["a==", "b"]
    assert joined(["="]) == ["="] and joined(["=", "a"]) == ["=a"] and joined([]) == []


# --- case -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["method=DPO", "method=Dpo", "method=dpo"])
def test_the_case_of_a_method_does_not_matter(word):
    assert merge({}, [word]).method == "dpo"


def test_nor_that_of_any_choice():
    choices = get_args(LabelSettings.model_fields["source"].annotation)
    assert [merge({}, [f"labels.source={choice.upper()}"]).labels.source for choice in choices] == list(choices)
    assert merge({"labels": {"source": "Judge"}}).labels.source == "judge"
    with pytest.raises(RequestError, match=r"labels\.source must be one of .*, got Nobody"):
        merge({}, ["labels.source=Nobody"])


def test_that_of_a_name_does():
    assert merge({}, ["data.name=Mine"]).data.name == "Mine"


# --- behind make ------------------------------------------------------------------------------------------------------


def test_a_value_that_a_hint_could_not_show_safely_is_left_out():
    with pytest.raises(RequestError) as told:
        refuse_variables({"seed": "1\x1b[2J; rm -rf /"}, ["pipeline"])
    assert str(told.value) == 'make pipeline knows no variable seed; did you mean SET="seed=…"?'


def test_only_words_of_the_verb_are_told_to_be_unread():
    environment = {"DATA": "mine", "NAME": "host", "PORT": "80"}
    assert [line.split()[1] for line in notes_of_unread({}, ["pipeline"], environment)] == ["DATA"]
    assert notes_of_unread({"DATA": "mine"}, ["pipeline"], environment) == []
    assert notes_of_unread({}, ["test"], environment) == []


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["help"], ["-h"], ["--help"]])
def test_help(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out == f"{overview()}\n"


@pytest.mark.parametrize("verb", OF_FLOWS)
def test_help_of_a_verb(verb, capsys):
    for words in (["help", verb], ["-h", verb], [verb, "--help"], [verb, "-h"], [verb, "help"], [verb, "X=1", "--help"]):
        assert main(words) == 0
        said = capsys.readouterr()
        assert (said.out, said.err) == (f"{help_of(verb)}\n", "")
    assert all(f"  {word.name} " in said.out and word.says in said.out for word in VERBS[verb].words)


def test_help_says_what_each_method_learns_from():
    lines = help_of("pipeline").splitlines()
    assert all(f"  {name:<14} {method.learns_from.says}" in lines for name, method in METHODS.items())
    assert "learns from" not in help_of("data")


def test_help_of_no_verb(capsys):
    assert main(["help", "pipelin"]) == 2
    assert "did you mean pipeline?" in capsys.readouterr().err


def test_the_table_names_every_word():
    for verb in VERBS.values():
        row = next(line for line in markdown().splitlines() if line.startswith(f"| `make {verb.name}` |"))
        assert all(f"`{word.name}`" in row for word in verb.words) and verb.does in row
