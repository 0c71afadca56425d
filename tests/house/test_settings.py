"""No setting without a reader, none without a line in docs/settings.md."""

import ast
import re
from pathlib import Path

import pytest

from posttrain.config import Config, setting_names
from posttrain.settings_page import settings_page

ROOT = Path(__file__).resolve().parents[2]
REGENERATE = (
    ".venv/bin/python -c \"from posttrain.settings_page import settings_page; print(settings_page(), end='')\" > docs/settings.md"
)


def attributes_read(text):
    """Return the names that `text` reads as attributes: `settings.beta` reads beta, `settings.beta = 1` does not."""
    nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if isinstance(node.ctx, ast.Load)}


def read_somewhere():
    """Return the attribute names that our code reads, and the parameters of the expectation suites."""
    paths = [path for room in ("flows", "tasks", "models", "posttrain") for path in (ROOT / room).rglob("*.py")]
    names = set().union(*(attributes_read(path.read_text()) for path in paths if path.name != "config.py"))
    for suite in (ROOT / "data" / "expectations").glob("*.json"):
        names |= set(re.findall(r'"\$PARAMETER": "(\w+)"', suite.read_text()))
    return names


def test_the_page_of_settings_is_current():
    is_current = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page()
    assert is_current, f"docs/settings.md is not what posttrain/config.py says. Make it again:\n{REGENERATE}"


@pytest.mark.parametrize("name", setting_names())
def test_every_setting_is_on_the_page_with_its_default(name):
    value = Config()
    for part in name.split("."):
        value = getattr(value, part)
    (row,) = re.findall(rf"^\| `{re.escape(name)}` \| `(.*?)` \|", settings_page(), flags=re.MULTILINE)
    assert row == {None: "none", "": '""'}.get(value, f"{value:g}" if isinstance(value, float) else str(value))


def test_no_setting_is_unread():
    read = read_somewhere()
    unread = [name for name in setting_names() if name.rpartition(".")[2] not in read]
    assert not unread, f"nothing outside posttrain/config.py reads these settings, so they promise what is not there: {unread}"


def test_an_unread_setting_is_found():
    assert attributes_read("settings.beta = 1\nrun(settings.gamma)") == {"gamma"}
    assert "a_setting_that_nobody_reads" not in read_somewhere()
