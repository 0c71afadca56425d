"""What make hands on, and what it refuses: the Makefile in a folder with a Python of the environment that only tells its words.

The Python that checks the words is the real one, without any library of ours: `flows/verbs.py` must not need one.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.verbs import OF_FLOWS, VERBS

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TELLS = '#!/bin/sh\nprintf "%s\\0" "$@" >> told\n'
NOTHING_RUN = r"Makefile:\d+: \*\*\* nothing was run\.  Stop\.\n$"


@pytest.fixture
def house(tmp_path):
    """A clone of which nothing but make's part is there, in a folder with a space in its name."""
    folder = tmp_path / "a house"
    files = (
        "flows/__init__.py",
        "flows/verbs.py",
        "flows/words.py",
        "posttrain/__init__.py",
        "posttrain/errors.py",
        "posttrain/methods.py",
        "posttrain/printable.py",
    )
    for name in ("Makefile", *files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "pyproject.toml").touch()
    (folder / "constraints.txt").touch()
    environment(folder / ".venv")
    return folder


def environment(folder):
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(TELLS)
    (folder / "bin" / "python").chmod(0o755)
    (folder / "pyvenv.cfg").touch()
    (folder / ".ready").touch()


def make(house, *words, **variables):
    """Run make as from a shell, not as from within a make, with a Python that finds no installed library."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment = {**kept, "PYTHON": f"{sys.executable} -S -E", **variables}
    return subprocess.run(["make", *words], cwd=house, env=environment, capture_output=True, text=True, check=False)


def told(house):
    """Return the words that the environment's Python got, of each of its calls."""
    file = house / "told"
    words = file.read_bytes().decode().split("\0")[:-1] if file.exists() else []
    return [] if not words else [call.split("\0") for call in "\0".join(words).removeprefix("-m\0flows\0").split("\0-m\0flows\0")]


def refused(house, *words, **variables):
    before = sorted(house.rglob("*"))
    done = make(house, *words, **variables)
    assert done.returncode == 2
    assert [path for path in sorted(house.rglob("*")) if path not in before and "__pycache__" not in str(path)] == []
    assert done.stdout == "" and re.search(NOTHING_RUN, done.stderr), done.stderr
    return re.sub(NOTHING_RUN, "", done.stderr)


# --- what stands on the command line is text --------------------------------------------------------------------------


HOSTILE = (
    "dpo; touch x;",
    "$(touch x)",
    "`touch x`",
    "$(shell touch x)",
    "${shell touch x}",
    "$$(touch x)",
    "$HOME $$HOME $(HOME) ${HOME}",
    'a"b',
    "it's",
    "a\\",
    "a\nb",
    "a && touch x | touch x > x",
    "#",
    "$(eval $(shell touch x))",
    "é ☃ %s",
    "-n",
    "'; touch x; '",
)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(("verb", "name"), [("pipeline", "METHOD"), ("import", "FILE"), ("grade", "OUT"), ("up", "PORT")])
def test_a_value_arrives_as_it_was_typed_and_runs_nothing(house, verb, name, value):
    done = make(house, verb, f"{name}={value}")
    assert (done.returncode, told(house)) == (0, [[verb, f"{name}={value}"]])
    assert not (house / "x").exists()


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_that_is_refused_runs_nothing(house, value):
    refused(house, "pipeline", f"seed={value}", f"FILE={value}")


@pytest.mark.parametrize("verb", OF_FLOWS)
def test_every_word_of_the_table_is_handed_on(house, verb):
    words = [f"{word.name}={word.name} 1" for word in VERBS[verb].words]
    assert make(house, verb, *words).returncode == 0
    assert told(house) == [[verb, *words]]


def test_words_that_are_not_given_are_not_handed_on(house):
    make(house, "pipeline")
    make(house, "import", "NAME=")
    assert told(house) == [["pipeline"], ["import", "NAME="]]


def test_several_verbs_at_once(house):
    assert make(house, "-j2", "data", "validate", "DATA=mine").returncode == 0
    assert sorted(told(house)) == [["data", "DATA=mine"], ["validate", "DATA=mine"]]


def test_a_dry_run_tells_and_runs_nothing(house):
    done = make(house, "-n", "pipeline", "METHOD=$(shell touch x)")
    assert done.returncode == 0 and 'flows pipeline METHOD="$METHOD"' in done.stdout
    assert told(house) == [] and not (house / "x").exists()
    refused(house, "-n", "pipeline", "method=sft")


# --- what is refused, before any environment is there -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["method=sft"], "knows no variable method; did you mean METHOD=sft? Case matters here"),
        (["Method=sft"], "knows no variable Method; did you mean METHOD=sft? Case matters here"),
        (["METHD=sft"], "knows no variable METHD; did you mean METHOD?"),
        (["DATASET=mine"], "knows no variable DATASET; did you mean DATA?"),
        (["data=mine"], "knows no variable data; did you mean DATA=mine? Case matters here"),
        (["SEED=3"], 'knows no variable SEED; did you mean SET="seed=3"?'),
        (["seed=1"], 'knows no variable seed; did you mean SET="seed=1"?'),
        (["dpo.beta=0.2"], 'knows no variable dpo.beta; did you mean SET="dpo.beta=0.2"?'),
        (["MODEL=./mine"], 'knows no variable MODEL; did you mean SET="model.base=./mine"?'),
        (["SETTINGS=seed=1"], "knows no variable SETTINGS; it takes METHOD, DATA and SET"),
        (["FORMAT=gsm8k"], "knows no variable FORMAT; it takes METHOD, DATA and SET"),
        (["GIVEN=x"], "knows no variable GIVEN; it takes METHOD, DATA and SET"),
        (["SHELL=/bin/false"], "knows no variable SHELL; it takes METHOD, DATA and SET"),
        (["READY="], "knows no variable READY; it takes METHOD, DATA and SET"),
        (["FLOWS=echo"], "knows no variable FLOWS; it takes METHOD, DATA and SET"),
    ],
)
def test_a_misspelt_variable_of_pipeline(house, words, sentence):
    shutil.rmtree(house / ".venv")
    assert refused(house, "pipeline", *words) == f"request: make pipeline {sentence}\n"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_refuses_what_it_does_not_take(house, verb):
    refused(house, verb, "COLOUR=blue")
    refused(house, verb, "checked=checked")


@pytest.mark.parametrize(
    ("verb", "words"), [("ui", "it takes PORT and OPEN"), ("down", "it takes no variables"), ("test", "it takes no variables")]
)
def test_a_variable_of_another_verb(house, verb, words):
    assert refused(house, verb, "METHOD=dpo") == f"request: make {verb} knows no variable METHOD; {words}\n"


def test_what_one_of_several_verbs_takes_is_no_mistake(house):
    assert make(house, "data", "pipeline", "METHOD=sft", "DATA=mine").returncode == 0
    assert told(house) == [["data", "DATA=mine"], ["pipeline", "METHOD=sft", "DATA=mine"]]


def test_all_mistakes_are_told_together(house):
    said = refused(house, "pipeline", "SEED=3", "DATASET=mine")
    assert said.count("\n") == 2 and "SEED" in said and "DATASET" in said


@pytest.mark.parametrize(
    ("goal", "hint"),
    [("tests", "; did you mean test?"), ("pipelin", "; did you mean pipeline?"), ("flows", ""), ("README.md", "")],
)
def test_a_goal_that_is_no_verb_is_refused_even_where_a_file_has_its_name(house, goal, hint):
    (house / "tests").mkdir()
    said = refused(house, goal)
    assert said.startswith(f"request: there is no verb {goal}{hint}")


@pytest.mark.parametrize("goal", ["x;touch y", "$(shell touch y)", "a'b", "`touch y`"])
def test_a_hostile_goal_runs_nothing(house, goal):
    refused(house, "pipeline", goal)


def test_spaces_around_the_sign_are_named_as_the_fault(house):
    assert refused(house, "pipeline", "METHOD=", "sft") == "request: there is no verb sft; write METHOD=sft without spaces\n"
    done = make(house, "pipeline", "METHOD", "=", "sft")
    assert done.returncode == 2 and told(house) == [], "by make itself, which finds an empty name"


@pytest.mark.parametrize("folder", ["a b", "a;touch x", "-x", "a:b", "$(HOME)", ""])
def test_an_environment_whose_name_is_more_than_a_name(house, folder):
    assert refused(house, "clean", f"VENV={folder}").startswith("request: VENV must be a path of letters, digits and ./_-+@")


def test_no_python(house):
    done = make(house, "pipeline", PYTHON="no-such-python")
    assert done.returncode == 2 and told(house) == []
    assert "no-such-python cannot read flows/verbs.py: posttrain needs Python 3.11, 3.12 or 3.13." in done.stderr


# --- what stays open --------------------------------------------------------------------------------------------------


def test_another_python_and_another_environment(house):
    environment(house / "other" / "env-3.12")
    done = make(house, "down", f"PYTHON={sys.executable}", "VENV=other/env-3.12", PYTHON="no-such-python")
    assert (done.returncode, told(house)) == (0, [["down"]])


def test_variables_of_the_environment_are_not_read_but_told(house):
    done = make(house, "pipeline", "METHOD=dpo", DATA="mine", METHOD="sft", FILE="x", SEED="3", VENV="elsewhere")
    assert (done.returncode, told(house)) == (0, [["pipeline", "METHOD=dpo"]])
    assert done.stderr == ("note: DATA of the shell's environment is not read; to use it: make pipeline DATA=mine\n")


def test_even_where_make_prefers_the_environment(house):
    assert make(house, "-e", "pipeline", METHOD="sft").returncode == 0
    assert told(house) == [["pipeline"]]


def test_a_shell_may_list_the_targets(house):
    done = make(house, "-npq", "__BASH_MAKE_COMPLETION__=1", ".DEFAULT")
    assert "pipeline:" in done.stdout and told(house) == []


def test_only_environments_are_removed(house):
    (house / "mine").mkdir()
    assert make(house, "clean", "VENV=mine").returncode == 2 and (house / "mine").is_dir()
    assert make(house, "clean").returncode == 0 and not (house / ".venv").exists()
    assert make(house, "clean").returncode == 0


def test_clean_leaves_what_nothing_makes_again(house):
    ours = house / ".posttrain"
    for name in ("prefect/prefect.db", "schedules/nightly.json", "labels/people.jsonl", "stages/sft/stage.json", "dvc.json"):
        (ours / name).parent.mkdir(parents=True, exist_ok=True)
        (ours / name).touch()
    kept = [house / "labelling" / "world" / "b1" / "events.jsonl", house / "data" / "world" / "labels.jsonl"]
    for file in kept:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (house / "reports").mkdir()
    assert make(house, "clean").returncode == 0
    assert all(file.exists() for file in kept), "what people said"
    assert sorted(path.name for path in ours.iterdir()) == ["labels", "prefect", "schedules"]
    assert not (house / "reports").exists() and told(house) == []


def test_clean_is_refused_while_a_restore_is_half_done(house):
    note = house / ".posttrain" / "keeping" / "restore.json"
    note.parent.mkdir(parents=True)
    note.touch()
    done = make(house, "clean")
    assert done.returncode == 2 and "a restore is at work, or was stopped; settle it first: make status" in done.stderr
    assert note.exists() and (house / ".venv").exists()


@pytest.mark.parametrize("word", ["KEEP=10", "APPLY=1"])
def test_with_words_clean_removes_nothing_by_itself(house, word):
    assert make(house, "clean", word).returncode == 0
    assert told(house) == [["clean", word]] and (house / ".venv").exists()


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("help",)])
def test_help_lists_every_verb_without_an_environment(house, words):
    shutil.rmtree(house / ".venv")
    done = make(house, *words)
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^make ([a-z]+) ", done.stdout, flags=re.MULTILINE)
    assert listed == list(VERBS)


def test_help_of_a_verb_runs_nothing_of_it(house):
    done = make(house, "help", "pipeline", "clean")
    assert done.returncode == 0 and told(house) == [] and (house / ".venv").is_dir()
    assert "METHOD" in done.stdout and "remove what can be made again" in done.stdout.lower()


def test_the_makefile_has_the_verbs_of_the_table():
    assert re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE).group(1).split() == list(VERBS)
    rules = set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, flags=re.MULTILINE))
    assert rules == set(VERBS)
