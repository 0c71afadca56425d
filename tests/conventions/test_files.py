"""What may lie in the repository, what it may be called, and how long it may be."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("posttrain", "models", "tasks", "flows")
LONGEST = 550
"""Lines of a file: it fits a sitting (aim at 350)."""

ABROAD = tuple(
    "".join(parts)
    for parts in (
        ("py", "pi.org"),
        ("files.python", "hosted"),
        ("/opt/", "pypi"),
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/Us", "ers/"),
    )
)
"""Hosts of package registries and absolute paths, which are true on one machine only. In pieces, so that this file has none."""


def of_git():
    """Return the files that git tracks or would take with the next `git add .`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout, so nothing says which files belong to it")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def python_files():
    return [path for path in of_git() if path.suffix == ".py"]


def test_no_file_is_called_after_nothing():
    wrong = [
        str(path.relative_to(ROOT)) for path in python_files() if path.stem in ("utils", "util", "common", "base", "helpers")
    ]
    assert not wrong, f"name these after what they know: {wrong}"


def test_no_python_in_mlflow_and_data():
    wrong = [str(path.relative_to(ROOT)) for room in ("mlflow", "data") for path in (ROOT / room).rglob("*.py")]
    assert not wrong, f"mlflow/ and data/ hold no Python (an mlflow/__init__.py hides the package): {wrong}"


def test_nothing_generated_is_tracked():
    generated = {".safetensors", ".bin", ".pt", ".ckpt", ".pkl", ".pickle", ".db", ".pyc", ".ipynb", ".parquet"}
    wrong = [str(path.relative_to(ROOT)) for path in of_git() if path.suffix in generated]
    assert not wrong, f"git holds sources, DVC holds data, MLflow holds models; take these out of git: {wrong}"


def test_no_registry_and_no_absolute_path():
    wrong = []
    for path in of_git():
        text = path.read_bytes().decode("utf-8", "ignore")
        wrong += [f"{path.relative_to(ROOT)} names {word}" for word in ABROAD if word in text]
    assert not wrong, "true on one machine only:\n" + "\n".join(wrong)


def test_no_file_is_longer_than_a_sitting():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files()}
    wrong = {name: lines for name, lines in lengths.items() if lines > LONGEST}
    assert not wrong, f"longer than {LONGEST} lines, so split them where the subject changes: {wrong}"


def prints(text):
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def test_ideas_and_networks_print_nothing():
    paths = [path for room in ("posttrain", "models") for path in (ROOT / room).rglob("*.py")]
    wrong = [f"{path.relative_to(ROOT)}:{line}" for path in paths for line in prints(path.read_text())]
    assert not wrong, f"return it or yield it; tasks and flows do the talking: {wrong}"
    assert prints("def f():\n    print(1)\n") == [2]


def test_every_page_that_is_named_is_there():
    named = re.compile(r"\bdocs/[\w./-]+\.(?:md|png)\b")
    texts = {path: path.read_text(encoding="utf-8") for path in of_git() if path.suffix in (".py", ".md", ".toml", ".yaml")}
    wrong = {
        f"{path.relative_to(ROOT)} names {name}"
        for path, text in texts.items()
        for name in named.findall(text)
        if not (ROOT / name).is_file()
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_links_between_pages_lead_somewhere():
    wrong = [
        f"{page.relative_to(ROOT)} links to {target}"
        for page in of_git()
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not wrong, "\n".join(wrong)
