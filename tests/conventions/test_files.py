"""What may lie in the repository, what it may be called, and how long it may be."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("posttrain", "models", "tasks", "flows")
LONGEST = 400
"""Lines of a file: it fits a sitting (aim at 350)."""
LONGEST_FUNCTION = 60
"""Lines from `def` to the last one, without the docstring: it fits a screen (aim at 40)."""
BOUNDED = ("posttrain", "models", "tasks", "flows", "benchmarks")
"""Where both hold; a file of tests is a list, and may be longer."""
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


def function_lengths(text):
    """Return the length of each function by its name, nested ones included; its docstring does not count."""
    lengths = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            said = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            lengths[node.name] = max(node.end_lineno - node.lineno + 1 - said, lengths.get(node.name, 0))
    return lengths


def bounded_files():
    return {name: path for path in python_files() if (name := str(path.relative_to(ROOT))).split("/")[0] in BOUNDED}


def test_no_file_is_longer_than_a_sitting():
    lengths = {name: len(path.read_text().splitlines()) for name, path in bounded_files().items()}
    wrong = {name: lines for name, lines in lengths.items() if lines > LONGEST}
    assert not wrong, f"longer than {LONGEST} lines, so split them where the subject changes: {wrong}"


def test_no_function_is_longer_than_a_screen():
    wrong = {
        f"{name} {function}": lines
        for name, path in bounded_files().items()
        for function, lines in function_lengths(path.read_text()).items()
        if lines > LONGEST_FUNCTION
    }
    assert not wrong, f"longer than {LONGEST_FUNCTION} lines without the docstring, so name a step of them: {wrong}"


def test_a_fabricated_long_function_is_found():
    body = "    x = 1\n" * 60
    assert function_lengths(f"def long():\n{body}")["long"] == 61
    assert function_lengths('def said():\n    """One.\n\n    Two.\n    """\n    return 1\n')["said"] == 2


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


def test_no_file_of_the_flows_has_the_name_of_a_module_of_python():
    """Prefect puts the folder of an entry point before Python's own: a flows/profile.py is what `import profile` gives there."""
    wrong = sorted(path.name for path in (ROOT / "flows").glob("*.py") if path.stem in sys.stdlib_module_names)
    assert not wrong, f"name these otherwise: {wrong}"
