"""How a request becomes a tree of settings: names looked up, values read as their fields want them, faults in a sentence."""

import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from posttrain.errors import RequestError, did_you_mean

Tree = TypeVar("Tree", bound=BaseModel)


def setting_names(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted name of every leaf of a tree, in the order of declaration."""
    names = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += setting_names(inner, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def written(params: Mapping[str, Any], overrides: Iterable[str], *, sections: Iterable[str]) -> dict[str, Any]:
    """Return values by dotted name, as somebody wrote them: those of `params` ← those of the command line.

    Args:
        params: what `params.yaml` holds.
        overrides: of the command line, "dpo.beta=0.2".
        sections: names at the top of the tree that are sections, which may be empty in `params.yaml`.

    Raises:
        RequestError: an override has no "=".
    """
    values = dict(_leaves(params, empty=frozenset(sections)))
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name.strip():
            raise RequestError(f"{override!r} is not a setting: write name=value, for example dpo.beta=0.2")
        values[name.strip()] = text.strip()
    return values


def tree_of(kind: type[Tree], values: Mapping[str, Any]) -> Tree:
    """Return the tree with these values, and defaults where there is none.

    Raises:
        RequestError: a name is unknown, or a value has the wrong type or is out of range.
    """
    known = setting_names(kind)
    tree: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise RequestError(_unknown(name, known))
        branch = tree
        *sections, leaf = name.split(".")
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = _plain(kind, name, value)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise RequestError("\n".join(_sentence(problem) for problem in error.errors())) from None


def _unknown(name: str, known: list[str]) -> str:
    inside = [setting for setting in known if setting.startswith(f"{name}.")]
    hint = f"; {name} is a section, its settings are {', '.join(inside)}" if inside else did_you_mean(name.lower(), known)
    return f"there is no setting {name}{hint or ' (all are listed in docs/settings.md)'}"


def _leaves(tree: Mapping[str, Any], prefix: str = "", *, empty: frozenset[str] = frozenset()) -> Iterable[tuple[str, Any]]:
    """Yield each value with its dotted name; a section whose lines are all commented out in params.yaml reads as None."""
    for name, value in tree.items():
        if value is None and not prefix and name in empty:
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _annotation(tree: type[BaseModel], name: str) -> Any:
    owner: type[BaseModel] = tree
    *sections, leaf = name.split(".")
    for section in sections:
        owner = owner.model_fields[section].annotation  # type: ignore[assignment]
    return owner.model_fields[leaf].annotation


def _plain(tree: type[BaseModel], name: str, value: Any) -> Any:
    """Return `value` as its field wants it: YAML and shells hand over "1e-5" and "none" as text, and 2 for a name.

    Where a field is one of a few names, case does not matter.
    """
    annotation = _annotation(tree, name)
    is_union = get_origin(annotation) in (Union, types.UnionType)

    def accepts(wanted: type) -> bool:
        return wanted in get_args(annotation) if is_union else annotation is wanted

    if isinstance(value, str) and get_origin(annotation) is Literal:
        return next((choice for choice in get_args(annotation) if str(choice).lower() == value.lower()), value)
    if isinstance(value, str) and value.lower() in ("none", "null") and accepts(types.NoneType):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and accepts(str):
        return str(value)
    if isinstance(value, bool) and not accepts(bool):
        return str(value).lower()
    return value


_RULES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be one of {expected}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must start with a letter or digit, and go on with those, dot, underscore or hyphen",
}


def _sentence(problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    value = problem["input"]
    if problem["type"] == "value_error":
        text = str(problem["ctx"]["error"])
        return text if text.startswith("there is no") else f"{name}: {text}"
    rule = _RULES.get(problem["type"])
    text = rule.format(**problem.get("ctx", {})) if rule else problem["msg"].lower()
    return f"{name} {text}, got {value}"
