"""The verbs' refusals: exit code, one sentence on stderr, and nothing written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows import __main__ as subject
from flows.__main__ import configuration, main
from posttrain.errors import ContractError, DataError, RequestError, StorageError
from posttrain.methods import METHODS
from posttrain.settings.config import Config
from tasks.workspace.paths import Paths

REPOSITORY = Path(__file__).parents[2]
READS_SETTINGS = (
    *("pipeline", "advise", "data", "validate", "settings", "history", "ui", "up", "doctor", "ask", "chat", "export", "serve"),
    *("label", "labels", "ab"),
)
VERBS = (
    *("pipeline", "compare", "advise", "scale", "data", "import", "label", "validate", "settings"),
    *("ask", "chat", "ab", "export", "serve", "labels", "grade", "monitor"),
    *("retrain", "schedule", "deploy", "promote", "rollback", "history", "ui", "up", "down", "status", "doctor"),
    *("backup", "restore", "clean"),
)
MEND = "Mend it, or: git checkout params.yaml"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository's root with nothing but an empty params.yaml; whatever the verbs set in the environment is undone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("# nothing differs from the defaults\n")
    before = dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def refused(root, capsys):
    """Run a verb that must refuse; return its exit code and what stands on stderr. Nothing may be written, nor printed."""

    def run(*arguments):
        before = contents(root)
        code = main(list(arguments))
        said = capsys.readouterr()
        assert contents(root) == before and said.out == ""
        assert "Traceback" not in said.err
        return code, said.err

    return run


def contents(folder):
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_without_a_verb(refused):
    assert refused() == (2, f"request: say what to do: {', '.join(VERBS)}\n")


@pytest.mark.parametrize(
    ("verb", "hint"),
    [("pipelin", "; did you mean pipeline?"), ("dat", "; did you mean data?"), ("xyz", ""), ("", ""), ("--hlp", "")],
)
def test_an_unknown_verb(refused, verb, hint):
    assert refused(verb) == (2, f"request: there is no verb {verb}{hint}; verbs are {', '.join(VERBS)}\n")


def test_every_verb_is_known():
    assert tuple(subject.VERBS) == VERBS


@pytest.mark.parametrize("verb", READS_SETTINGS)
@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("method=dop", f"there is no method dop; did you mean dpo?; methods are {', '.join(METHODS)}"),
        ("dpo.bta=1", "there is no setting dpo.bta; did you mean dpo.beta?"),
        ("SEED=3", "there is no setting SEED; did you mean seed?"),
        ("dpo.beta=-1", "dpo.beta must be greater than 0.0, got -1"),
        ("seed=one", "seed must be a whole number, got one"),
        ("seed", "'seed' is not a setting: write name=value, for example dpo.beta=0.2"),
        (
            "world.seed=1",
            "world.seed decides what the data are, which DVC versions: change it in params.yaml, then run make data",
        ),
    ],
)
def test_a_wrong_setting(refused, verb, word, sentence):
    assert refused(verb, word) == (2, f"request: {sentence}\n")


def test_two_wrong_settings_are_told_together(refused):
    assert refused("pipeline", "seed=-1", "dpo.beta=0") == (
        2,
        "request: seed must be at least 0, got -1\ndpo.beta must be greater than 0.0, got 0\n",
    )


@pytest.mark.parametrize("verb", READS_SETTINGS)
def test_without_params_yaml(refused, root, verb):
    (root / "params.yaml").unlink()
    assert refused(verb) == (2, f"request: params.yaml is not in {root}: start from the repository's root\n")


@pytest.mark.parametrize(
    "content", [b"dpo: [1, 2\n", b"dpo:\n\tbeta: 1\n", b"\xff\xfe\x00", b"a: !!python/object:os.system {}\n", b"a: b: c\n"]
)
def test_broken_yaml(refused, root, content):
    (root / "params.yaml").write_bytes(content)
    code, told = refused("pipeline")
    assert code == 2
    assert told.startswith("request: params.yaml cannot be read: ") and told.endswith(f". {MEND}\n")
    assert told.count("\n") == 1


def test_broken_yaml_says_where(refused, root):
    (root / "params.yaml").write_text("dpo: [1, 2\nsft: 3\n")
    assert "line 2, column 4" in refused("pipeline")[1]


@pytest.mark.parametrize(("text", "value"), [("- dpo\n", "['dpo']"), ("dpo\n", "'dpo'"), ("3\n", "3")])
def test_params_that_are_no_sections(refused, root, text, value):
    (root / "params.yaml").write_text(text)
    assert refused("pipeline") == (2, f"request: params.yaml must hold sections of settings, got {value}\n")


def test_a_wrong_setting_in_params_is_refused_like_one_on_the_command_line(refused, root):
    (root / "params.yaml").write_text("dpo:\n  bta: 1\n")
    assert refused("pipeline") == (2, "request: there is no setting dpo.bta; did you mean dpo.beta?\n")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "{}\n"])
def test_empty_params_are_the_defaults(root, text):
    (root / "params.yaml").write_text(text)
    assert configuration(Paths(root), []) == Config()


def test_settings_come_from_params_and_the_command_line_wins(root):
    (root / "params.yaml").write_text("dpo:\n  beta: 0.7\n  learning_rate: 1e-5\nworld:\n  seed: 3\n")
    config = configuration(Paths(root), ["dpo.beta=0.2", "method=sft"])
    assert (config.dpo.beta, config.dpo.learning_rate, config.world.seed, config.method) == (0.2, 1e-5, 3, "sft")


# --- verbs with words of their own ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ((), "FILE"),
        (("format=gsm8k",), "FILE"),
        (("file=x.jsonl",), "NAME"),
        (("format=gsm8k", "file=", "name=x"), "FILE"),
    ],
)
def test_import_needs_a_file_and_a_name(refused, words, missing):
    assert refused("import", *words) == (
        2,
        f"request: import needs {missing}: make import FORMAT=gsm8k FILE=train.jsonl NAME=gsm8k\n",
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("ask",), "ask needs PROMPT or FILE, one of them"),
        (("ask", "prompt=x", "temperature=hot"), "TEMPERATURE must be a number of at least 0"),
        (("ask", "prompt=x"), "there is no model of world: no pipeline has run here"),
        (("chat", "model=base sft"), "chat is with one model, got MODEL=base sft"),
        (("chat", "model=sft"), "no run of world here has a model sft"),
        (("export", "version=1"), "export needs TO: make export"),
        (("export", "version=1", "to=x", "format=GGUF", "type=q4"), "TYPE must be f32, f16, bf16, q8_0, got q4"),
        (("export", "version=1", "to=x"), "there is no model posttrain-world: no pipeline has run here"),
        (("serve", "port=80"), "PORT must be a whole number between 1024 and 65535, got 80"),
        (("serve", "version=3"), "there is no model posttrain-world: no pipeline has run here"),
    ],
)
def test_verbs_that_use_a_model(refused, words, told):
    code, said = refused(*words)
    assert (code, said[: len(told) + 9]) == (2, f"request: {told}")


def test_import_takes_no_others(refused):
    words = ("format=gsm8k", "file=x.jsonl", "nmae=x", "seed=1")
    told = "request: import takes FORMAT, FILE, NAME, MAP, HELD_OUT and SKIP_BAD, not nmae; did you mean NAME?\n"
    assert refused("import", *words) == (2, told)


def test_skip_bad_is_yes_or_no(refused):
    words = ("file=x.jsonl", "name=x", "skip_bad=maybe")
    assert refused("import", *words) == (
        2,
        "request: SKIP_BAD must be 1 (put rows that cannot be read aside) or 0, got maybe\n",
    )


@pytest.mark.parametrize(
    ("verb", "word", "sentence"),
    [
        ("down", "now", "down takes no words, got now"),
        ("down", "port=5001", "down takes no words, got port=5001"),
        ("status", "now", "status takes no words, got now"),
        ("up", "unit=yes", "UNIT must be 1 (print a unit of systemd) or 0, got yes"),
        ("grade", "seed=1", "grade takes GRADER, FILE, OUT and FORCE, not seed"),
    ],
)
def test_a_verb_takes_no_words_but_its_own(refused, verb, word, sentence):
    assert refused(verb, word) == (2, f"request: {sentence}\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("promote",), 'promote needs VERSION: make promote VERSION=7 WHY="better on fractions"'),
        (("promote", "version=7"), 'promote needs WHY: make promote VERSION=7 WHY="better on fractions"'),
        (("promote", "VERSION=7", "WHY= "), 'promote needs WHY: make promote VERSION=7 WHY="better on fractions"'),
        (("promote", "version=7", "why=x", "force=yes"), "FORCE must be 1 (promote it although the gate says no) or 0, got yes"),
        (
            ("promote", "version=7", "why=x", "promotion.margn=1"),
            "there is no setting promotion.margn; did you mean promotion.margin?",
        ),
        (("rollback",), 'rollback needs WHY: make rollback WHY="wrong answers in production"'),
        (("rollback", "version=1"), "there is no setting version"),
        (("history", "why=x"), "there is no setting why"),
        (
            ("rollback", "why=x"),
            "there is no model posttrain-world: no pipeline has run here. Make one: make pipeline DATA=world",
        ),
        (
            ("promote", "version=7", "why=x", "DATA=mine"),
            "there is no model posttrain-mine: no pipeline has run here. Make one: make pipeline DATA=mine",
        ),
        (("history",), "there is no model posttrain-world: no pipeline has run here. Make one: make pipeline DATA=world"),
        (("rollback", f"why={'x' * 1001}"), "WHY must have at most 1,000 characters, got 1,001: it is a line of the history"),
    ],
)
def test_moves_that_are_refused_before_anything_is_looked_at(refused, words, sentence):
    code, told = refused(*words)
    assert code == 2 and told.startswith(f"request: {sentence}")


# --- every kind of error, and an interruption -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (RequestError("no such thing"), 2, "request: no such thing\n"),
        (DataError("line 3 is broken"), 2, "data: line 3 is broken\n"),
        (StorageError("the disk is full"), 2, "disk: the disk is full\n"),
        (ContractError("accuracy fell"), 3, "contract: accuracy fell\n"),
        (KeyboardInterrupt(), 130, "interrupted; finished stages are kept, and the same command goes on from there\n"),
    ],
)
def test_exit_codes(refused, monkeypatch, error, code, told):
    def verb(paths, words):
        raise error

    monkeypatch.setitem(subject.VERBS, "data", verb)
    assert refused("data") == (code, told)


def test_a_verb_gets_its_words_and_the_place_where_it_was_started(root, monkeypatch):
    called = []
    monkeypatch.setitem(subject.VERBS, "data", lambda paths, words: called.append((paths, words)))
    assert main(["data", "seed=1", "method=sft"]) == 0
    assert called == [(Paths(root), ["seed=1", "method=sft"])]


def test_a_bug_is_not_hidden_behind_a_sentence(root, monkeypatch):
    def verb(paths, words):
        raise ZeroDivisionError

    monkeypatch.setitem(subject.VERBS, "data", verb)
    with pytest.raises(ZeroDivisionError):
        main(["data"])


# --- disks ------------------------------------------------------------------------------------------------------------


def test_a_nearly_full_disk_is_refused_before_anything_starts(root, monkeypatch, capsys):
    usage = type("Usage", (), {"free": 499 * 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert main(["pipeline"]) == 2
    assert capsys.readouterr().err == (
        f"disk: {root / '.posttrain'}: 499 MB are free, at least 500 MB are needed. Make room, then run again\n"
    )


@pytest.mark.parametrize("name", [".posttrain", "mlflow/store", "reports", "data", ".dvc/cache"])
def test_every_disk_that_is_written_is_looked_at(root, monkeypatch, capsys, name):
    for folder in ("data", ".dvc/cache"):
        (root / folder).mkdir(parents=True)

    def usage(path):
        return type("Usage", (), {"free": (10 if path == root / name else 5_000) * 2**20})

    real, disks = Path.stat, {name: number for number, name in enumerate((".posttrain", "mlflow/store", "reports", "data"))}

    def on_a_disk_of_its_own(self, **how):
        state = real(self, **how)
        number = disks.get(str(self.relative_to(root)), 99) if self.is_relative_to(root) else 0
        return os.stat_result([*state[:2], number, *state[3:10]])

    monkeypatch.setattr("shutil.disk_usage", usage)
    monkeypatch.setattr(Path, "stat", on_a_disk_of_its_own)
    assert main(["pipeline"]) == 2
    told = f"disk: {root / name}: 10 MB are free, at least 500 MB are needed. Make room, then run again\n"
    assert capsys.readouterr().err == told


def test_a_place_that_cannot_be_written_is_refused_before_anything_starts(root, monkeypatch, capsys):
    def refuse(self, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert main(["pipeline"]) == 2
    assert capsys.readouterr().err.startswith(f"disk: before the start: the disk may not be written ({root / '.posttrain'}). ")


def test_the_disks_check_leaves_no_file_behind(root):
    subject.check_disk(Paths(root))
    assert not [path for path in root.rglob("*") if path.is_file() and path.name != "params.yaml"]


# --- the process ------------------------------------------------------------------------------------------------------


def test_a_refusal_is_quick_and_imports_no_heavy_library(root):
    """The refusal of a real process: exit code, stderr, and neither torch nor Prefect nor MLflow loaded to say it."""
    script = (
        "import sys; from flows.__main__ import main; code = main(['pipeline', 'dpo.bta=1']); "
        "print(sorted({'torch', 'prefect', 'mlflow', 'transformers', 'dvc'} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert done.stderr == "request: there is no setting dpo.bta; did you mean dpo.beta?\n"


def process(root, *words, **stubs):
    """Run a verb as a process, with modules in its folder that stand before the libraries of their names."""
    for name, source in stubs.items():
        (root / f"{name}.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "flows", *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PREFECT_API_URL": "http://127.0.0.1:9/api"},
        capture_output=True,
        text=True,
        check=False,
    )


INTERRUPT = "import signal; signal.raise_signal(signal.SIGINT)"


def test_an_interruption_before_the_verb_is_known_leaves_no_traceback(root):
    done = process(root, "pipeline", yaml=INTERRUPT)
    assert (done.returncode, done.stderr, done.stdout) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_while_libraries_load_is_130(root, name):
    """From source that is run as text, as dataclasses do, Python would end by the signal instead of with an exit code."""
    text = INTERRUPT.replace("SIGINT", name)
    done = process(root, "pipeline", prefect=f"exec({text!r})")
    told = "interrupted; finished stages are kept, and the same command goes on from there\n"
    assert (done.returncode, done.stderr, done.stdout) == (130, told, "")


@pytest.mark.parametrize(("verb", "port"), [("up", "80"), ("up", "x"), ("ui", "65536"), ("ui", "-1")])
def test_a_wrong_port(root, capsys, monkeypatch, verb, port):
    monkeypatch.setattr("tasks.tracking.ledger.Ledger.open", lambda *_: None)
    assert main([verb, f"PORT={port}"]) == 2
    assert capsys.readouterr().err == f"request: PORT must be a whole number between 1024 and 65535, got {port}\n"
