"""The page docs/settings.md, made of the declarations in posttrain/settings/section.py, so that the two cannot differ."""

import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from posttrain.methods import METHODS
from posttrain.settings.config import VERSIONED_BY_DVC, Config

PREAMBLE = """\
# Settings

Made of the sections in `posttrain/settings/` by `posttrain/settings/page.py`; change the declaration there, not this page.

A value is looked up in four places, the last one that has it wins: the default below, the [profile](profiles.md) of the base,
`params.yaml`, the command line (`make pipeline METHOD=dpo SET="dpo.beta=0.2 seed=1"`). `make settings METHOD=dpo` lists what a
method reads, its values, and where they come from. A name that does not exist or a value out of range is refused before
anything runs. What DVC versions ({versioned}) is changed in `params.yaml` only.

Methods: {methods}.
"""

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", types.NoneType: "none"}
_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("multiple_of", "multiple of"), ("pattern", "matches"))


def settings_page() -> str:
    """Return the page as Markdown: a table a section, a row a setting with name, default, range and meaning."""
    leaves = {name: field for name, field in Config.model_fields.items() if not _is_section(field)}
    lines = [
        PREAMBLE.format(
            versioned=", ".join(f"`{name}`" for name in VERSIONED_BY_DVC), methods=", ".join(f"`{name}`" for name in METHODS)
        ),
        "## The whole run\n",
        *_table("", leaves),
    ]
    for name, field in Config.model_fields.items():
        if _is_section(field):
            section: type[BaseModel] = field.annotation  # type: ignore[assignment]
            lines += [f"\n## `{name}`\n", f"{' '.join((section.__doc__ or '').split())}\n"]
            lines += _table(f"{name}.", section.model_fields)
    return "\n".join(lines) + "\n"


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _table(prefix: str, fields: dict[str, FieldInfo]) -> Iterator[str]:
    yield "| setting | default | allowed | meaning |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        cells = (f"`{prefix}{name}`", f"`{_shown(field.default)}`", allowed(field), " ".join((field.description or "").split()))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if value == "":
        return '""'
    return f"{value:g}" if isinstance(value, float) else str(value)


def allowed(field: FieldInfo) -> str:
    """Return what values a setting takes, in words: its choices, or its type with its bounds."""
    annotation = field.annotation
    if isinstance(field.json_schema_extra, dict) and "methods" in field.json_schema_extra:
        return ", ".join(f"`{choice}`" for choice in METHODS)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return ", ".join([" or ".join(map(_kind, kinds)), *_bounds(field.metadata)])


def _kind(kind: Any) -> str:
    """Return one kind of value in words: a choice, or a type with the bounds of its own."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is Annotated:
        kind, *constraints = get_args(kind)
        flat = [one for each in constraints for one in (each.metadata if isinstance(each, FieldInfo) else [each])]
        return ", ".join([_WORDS[kind], *_bounds(flat)])
    return _WORDS[kind]


def _bounds(constraints: Iterable[Any]) -> list[str]:
    return [
        f"{words} `{limit}`" if attribute == "pattern" else f"{words} {limit:g}"
        for constraint in constraints
        for attribute, words in _BOUNDS
        if (limit := getattr(constraint, attribute, None)) is not None
    ]
