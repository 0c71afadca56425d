"""The wheel holds every module of the rooms and nothing beside them, and runs where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows.verbs import overview
from tasks.data.dataset_code import ENTRY

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("posttrain", "models", "tasks", "flows")
BESIDE = ("benchmarks", "data", "mlflow", "tests")
"""Folders of the repository that are no part of the wheel."""


def run(*command, cwd, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False
    )


def pip(*arguments, cwd):
    done = run("-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel of a copy, so that no build folder is left in the checkout, with Python planted beside the rooms."""
    if missing := [name for name in ("pip", "setuptools") if find_spec(name) is None]:
        pytest.skip(f"{missing[0]} is not installed here, and without a network nothing else builds the wheel")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in BESIDE:
        (copy / folder).mkdir()
        (copy / folder / "__init__.py").write_text("")
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy)
    pip("wheel", ".", "--no-build-isolation", "--wheel-dir", out, cwd=copy)
    return next(out.glob("posttrain-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel into an empty folder; return that folder."""
    target = tmp_path_factory.mktemp("installed")
    pip("install", wheel, "--target", target, cwd=target)
    return target


def test_the_wheel_holds_every_module_and_nothing_beside_them(wheel):
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert held == wanted, (
        "each folder of a room needs an __init__.py, and other files stand under package-data in pyproject.toml; "
        f"the wheel differs from the source tree in {sorted(held ^ wanted)}"
    )


def test_the_help_is_told_elsewhere(installed, tmp_path):
    done = run("-m", "flows", "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{overview()}\n", "")


def test_it_is_the_wheel_that_ran(installed, tmp_path):
    command = "import flows, models, posttrain, tasks; print(*(each.__file__ for each in (flows, models, posttrain, tasks)))"
    done = run("-c", command, cwd=tmp_path, PYTHONPATH=str(installed))
    assert [Path(file).parent.parent for file in done.stdout.split()] == [installed] * 4, done.stderr


@pytest.mark.parametrize("words", [("pipeline",), ("data",), ("validate",), ("ui",), ("import", "file=rows.jsonl", "name=mine")])
def test_verbs_that_need_a_checkout_refuse_in_a_sentence_and_write_nothing(installed, tmp_path, words):
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    done = run("-m", "flows", *words, cwd=tmp_path, PYTHONPATH=str(installed))
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"request: params.yaml is not in {tmp_path}: start from the repository's root\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_settings_of_ones_own_are_no_checkout(installed, tmp_path):
    (tmp_path / "params.yaml").write_text("split: {seed: 0}\n")
    done = run("-m", "flows", "import", "file=rows.jsonl", "name=mine", cwd=tmp_path, PYTHONPATH=str(installed))
    code = ENTRY.replace(".", "/")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"request: the code that makes data ({code}) is not in {tmp_path}: start from the repository's root\n",
    )
    done = run("-m", "flows", "data", cwd=tmp_path, PYTHONPATH=str(installed))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("request: there is no dataset world; datasets are none. "), done.stderr
