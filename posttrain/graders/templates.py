"""OpenAI's templates: `{{item.x}}` is a field of the record, `{{sample.output_text}}` the completion."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from posttrain.errors import RequestError
from posttrain.graders.interface import Sample, nearest

SAMPLE_FIELDS = ("output_text", "output_json", "choices")
LONGEST_JSON = 200_000
"""Characters of a completion that is read as JSON: what holds nothing but brackets makes a hundred bytes of each."""

_SLOT = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_PATH = re.compile(r"(item|sample)((?:\.[A-Za-z_][\w-]*|\[\d+\]|\[\"[^\"\]]+\"\]|\['[^'\]]+'\])+)")
_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]|\[[\"']([^\"'\]]+)[\"']\]")

Path = tuple[str | int, ...]


class Unreadable(Exception):  # noqa: N818 (the completion's fault, told in its grade; never an error of ours)
    """The completion is no JSON, or its JSON has not the field that a template names."""


class Template:
    """A text with slots.

    Raises:
        RequestError: a slot names neither item nor sample, or a field of sample that does not exist.
    """

    def __init__(self, text: str, *, where: str) -> None:
        self._where = where
        pieces = _SLOT.split(text)
        self._pieces: list[str | Path] = [
            piece if place % 2 == 0 else self._path(piece) for place, piece in enumerate(pieces) if piece or place % 2
        ]
        self.is_output_text = self._pieces == [("sample", "output_text")]

    def _path(self, text: str) -> Path:
        found = _PATH.fullmatch(text)
        if found is None:
            raise RequestError(
                f"{self._where}: {{{{{text}}}}} is no field: write {{{{item.name}}}} or {{{{sample.output_text}}}}"
            )
        steps = tuple(int(step[2]) if step[2] else step[1] or step[3] for step in _STEP.finditer(found[2]))
        if found[1] == "sample" and steps[0] not in SAMPLE_FIELDS:
            known = nearest(str(steps[0]), SAMPLE_FIELDS, "its fields")
            raise RequestError(f"{self._where}: a sample has no field {steps[0]}{known}")
        return (found[1], *steps)

    def render(self, sample: Sample) -> str:
        """Return the text with its slots filled; what is no text is written as JSON.

        Raises:
            RequestError: the record has no such field.
            Unreadable: the completion is no JSON, or lacks the field.
        """
        return "".join(piece if isinstance(piece, str) else written(self._value(piece, sample)) for piece in self._pieces)

    def value(self, sample: Sample) -> Any:
        """Return what a template that is one slot stands for (a list stays a list), else the rendered text."""
        (piece, *more) = self._pieces or ("",)
        return self.render(sample) if more or isinstance(piece, str) else self._value(piece, sample)

    def _value(self, path: Path, sample: Sample) -> Any:
        if path[0] == "item":
            return self._followed(sample.record, path)
        if path[1] == "output_text":
            return sample.completion if len(path) == 2 else self._followed(sample.completion, path[1:])
        root = output_json(sample.completion) if path[1] == "output_json" else _choices(sample)
        try:
            return self._followed(root, path[1:])
        except RequestError as error:
            raise Unreadable(str(error)) from None

    def _followed(self, root: Any, path: Path) -> Any:
        value = root
        for place, step in enumerate(path[1:], 1):
            is_element = isinstance(step, int) and isinstance(value, list | tuple) and step < len(value)
            if not is_element and not (isinstance(value, Mapping) and step in value):
                raise RequestError(f"{self._where}: {self._missing(value, path[:place], step)}")
            value = value[step]
        return value

    @staticmethod
    def _missing(value: Any, path: Path, step: str | int) -> str:
        owner = ".".join(str(one) for one in path)
        if isinstance(step, int) or not isinstance(value, Mapping):
            size = f"{len(value)} elements" if isinstance(value, list | tuple) else f"of type {type(value).__name__}"
            return f"there is no {owner}[{step!r}], {owner} is {size}"
        return f"there is no field {owner}.{step}{nearest(step, map(str, value), 'the fields')}"


def written(value: Any) -> str:
    """Return a value as a template writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def output_json(completion: str) -> Any:
    """Return the JSON that a completion is.

    Raises:
        Unreadable: it is none, or longer or deeper than JSON that someone means.
    """
    if len(completion) > LONGEST_JSON:
        raise Unreadable(f"the output has {len(completion)} characters, more than {LONGEST_JSON} are not read as JSON")
    try:
        return json.loads(completion)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the output is no JSON: {str(error)[:100]}") from None


def variables(sample: Sample) -> dict[str, Any]:
    """Return what a template, or a `python` grader, sees as `sample`; `output_json` only where the completion is JSON."""
    seen: dict[str, Any] = {"output_text": sample.completion, "choices": _choices(sample)}
    with suppress(Unreadable):
        seen["output_json"] = output_json(sample.completion)
    return seen


def _choices(sample: Sample) -> list[dict[str, Any]]:
    return [{"index": 0, "message": {"role": "assistant", "content": sample.completion}}]
