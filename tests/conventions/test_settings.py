"""No setting without a reader, none without a line in docs/settings.md."""

import ast
import re
from pathlib import Path

import pytest

from posttrain.methods import METHODS
from posttrain.settings.config import SECTION_NAMES, Config
from posttrain.settings.merging import setting_names
from posttrain.settings.page import settings_page
from posttrain.settings.section import Section

ROOT = Path(__file__).resolve().parents[2]
REGENERATE = (
    ".venv/bin/python -c \"from posttrain.settings.page import settings_page; print(settings_page(), end='')\" > docs/settings.md"
)
SECTIONS = {
    field.annotation.__name__: name for name, field in Config.model_fields.items() if hasattr(field.annotation, "model_fields")
}
"""The section of the tree that each class of settings is, by the class's name."""


def reads(text):
    """Return the dotted names of the settings that `text` reads.

    `settings.beta`, where a function's `settings` is annotated `DPOSettings`, reads dpo.beta; so does `config.dpo.beta`. What
    an __init__ takes under such an annotation, its class's methods read as `self.settings.beta`, `self._settings.beta` or
    under the same name.
    """
    found = set()
    tree = ast.parse(text)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            kinds = _kinds(function)
            found |= {name for node in ast.walk(function) for name in _settings(node, kinds)}
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef):
            made = [one for one in owner.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
            kinds = {name: classes for one in made for name, classes in _kinds(one).items()}
            found |= {name for node in ast.walk(owner) for name in _settings(node, kinds)}
    return found


def _kinds(function):
    """Return the classes that each argument is annotated with: one, or several with | between them."""
    arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    return {each.arg: names for each in arguments if (names := _classes(each.annotation))}


def _classes(annotation):
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return _classes(annotation.left) | _classes(annotation.right)
    return {annotation.id} if isinstance(annotation, ast.Name) else set()


def _settings(node, kinds):
    """Return the settings that an attribute is, given the classes of each argument."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return set()
    owner = node.value
    if isinstance(owner, ast.Name):
        classes = kinds.get(owner.id, set())
        return {node.attr} if classes == {"Config"} else {f"{SECTIONS[kind]}.{node.attr}" for kind in classes & SECTIONS.keys()}
    if isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "self":
        return {f"{SECTIONS[kind]}.{node.attr}" for kind in kinds.get(owner.attr.lstrip("_"), set()) & SECTIONS.keys()}
    return {f"{owner.attr}.{node.attr}"} if isinstance(owner, ast.Attribute) and owner.attr in SECTIONS.values() else set()


def read_somewhere():
    """Return what our code reads, and the parameters of the expectation suites, which are settings of `validation`."""
    paths = [path for room in ("flows", "tasks", "models", "posttrain") for path in (ROOT / room).rglob("*.py")]
    names = set().union(*(reads(path.read_text()) for path in paths if path.name != "config.py"))
    for method in METHODS.values():  # a section that adjusts a trainer's is read by the names that both have
        own, trainers = (getattr(Config(), name, None) for name in (method.adjusts, method.trainer))
        names |= (
            {f"{method.adjusts}.{name}" for name in type(own).model_fields if name in type(trainers).model_fields}
            if own
            else set()
        )
    for kind in Section.__subclasses__():  # a section that is another's kind is read by whoever reads that one
        heirs = (SECTION_NAMES[heir] for heir in kind.__subclasses__() if heir in SECTION_NAMES)
        names |= {f"{heir}.{name}" for heir in heirs for name in kind.model_fields if f"{SECTION_NAMES[kind]}.{name}" in names}
    for suite in (ROOT / "data" / "expectations").glob("*.json"):
        names |= {f"validation.{name}" for name in re.findall(r'"\$PARAMETER": "(\w+)"', suite.read_text())}
    return names


def test_the_page_of_settings_is_current():
    is_current = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page()
    assert is_current, f"docs/settings.md is not what posttrain/settings/section.py says. Make it again:\n{REGENERATE}"


@pytest.mark.parametrize("name", setting_names(Config))
def test_every_setting_is_on_the_page_with_its_default(name):
    value = Config()
    for part in name.split("."):
        value = getattr(value, part)
    (row,) = re.findall(rf"^\| `{re.escape(name)}` \| `(.*?)` \|", settings_page(), flags=re.MULTILINE)
    assert row == {None: "none", "": '""'}.get(value, f"{value:g}" if isinstance(value, float) else str(value))


def test_no_setting_is_unread():
    unread = sorted(set(setting_names(Config)) - read_somewhere())
    assert not unread, (
        f"nothing outside posttrain/settings/section.py reads these settings, so they promise what is not there: {unread}"
    )


def test_a_reader_is_told_from_its_namesake():
    assert reads("def f(settings: SFTSettings | DPOSettings):\n    run(settings.epochs)\n") == {"sft.epochs", "dpo.epochs"}
    kept = "class A:\n    def __init__(self, settings: PPOSettings):\n        self._settings = settings\n"
    assert reads(f"{kept}    def f(self):\n        run(self._settings.epochs, self.other.seed)\n") == {"ppo.epochs"}
    assert reads("def train(settings: DPOSettings):\n    run(settings.beta)\n    settings.epochs = 1\n") == {"dpo.beta"}
    assert reads("def f(config: Config, other: Any):\n    run(config.seed, config.split.seed, other.beta)\n") == {
        "seed",
        "split",
        "split.seed",
    }
