"""The page docs/comparison.md, made of the declarations of the record, so that the two cannot differ."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from posttrain.comparison.schema import SCHEMA, Record

PREAMBLE = """\
# The record of a comparison

Made of the declarations in `posttrain/comparison/` (`schema.py`, `method_fields.py`, `fields.py`) by `schema_page.py`; change the
declaration there, not this page.

`make compare` writes `reports/compare/<id>/comparison.json`, and `reports/compare/latest.json` is the newest one. It holds every
number that the page shows. Its form is `{schema}`, the value of its field `schema`. A field may be added within version 1;
one that is taken away, or means something else, makes version 2. Shares are in 0..1, times in seconds, and what is undefined is
null, never 0.

Differences are turned so that above 0 always means that `a` is better, whatever the metric. A loss itself is never turned: in
`scores` and `mean` lower is better where `design.higher_is_better` is false.

```
jq -r '.pairs[] | [.family, .a, .b, .estimate, .low, .high, .p_holm, .verdict] | @tsv' reports/compare/latest.json
```
"""

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "anything", types.NoneType: "null"}


def comparison_page() -> str:
    """Return the page as Markdown: a table a part, a row a field with its type and meaning."""
    lines = [PREAMBLE.format(schema=SCHEMA)]
    for part in parts(Record):
        title = "The whole record" if part is Record else f"`{part.__name__}`"
        lines += [f"## {title}\n", f"{' '.join((part.__doc__ or '').split())}\n", *_table(part), ""]
    return "\n".join(lines)


def parts(top: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a part and every part inside it, each once, in the order in which fields name them."""
    found: list[type[BaseModel]] = []
    waiting = [top]
    while waiting:
        part = waiting.pop(0)
        if part not in found:
            found.append(part)
            waiting += [inner for field in part.model_fields.values() for inner in _inside(field.annotation)]
    return found


def field_names(part: type[BaseModel]) -> list[str]:
    """Return the names of a part's fields as JSON has them."""
    return [field.alias or name for name, field in part.model_fields.items()]


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _inside(inner)


def _table(part: type[BaseModel]) -> Iterator[str]:
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for name, field in part.model_fields.items():
        cells = (f"`{field.alias or name}`", _type(field), " ".join((field.description or "").split()))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(field: FieldInfo) -> str:
    return _words(field.annotation)


def _words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin is list:
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return f"object, {_words(inner[1])} by {_words(inner[0])}"
    return _WORDS[annotation] if annotation in _WORDS else f"[{annotation.__name__}](#{annotation.__name__.lower()})"
