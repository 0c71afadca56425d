"""The prompts of AI judges as files that one can edit: principles, a question in either mode, and the answers that count."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal

from posttrain.errors import RequestError, did_you_mean

Mode = Literal["pairwise", "pointwise"]
PLACES: dict[Mode, tuple[str, ...]] = {"pairwise": ("prompt", "first", "second"), "pointwise": ("prompt", "response")}
"""What a mode's question must show."""
FIELDS = ("says", "system", "chat", "principles", "pairwise", "pointwise")
FORM_FIELDS = ("question", "think", "ending", "options")
PAGE = "docs/judges.md"


@dataclass(frozen=True)
class Template:
    """A template in one mode, its principles filled in.

    Attributes:
        name: `pairwise` or `pointwise`.
        system: instructions that a chat puts first.
        question: text with {prompt}, {first} and {second}, or {prompt} and {response}.
        think: asks for reasoning; empty where the file has none.
        ending: stands right before the answer.
        options: each answer with what it means: 1 for the first place and 0 for the second, or a score of 1 to 10.
        is_chat: whether a local model is asked through its chat template.
    """

    name: Mode
    system: str
    question: str
    think: str
    ending: str
    options: Mapping[str, float]
    is_chat: bool

    def rendered(self, **texts: str) -> str:
        """Return the question with the texts in their places."""
        return self.question.format(**texts)

    @property
    def digest(self) -> str:
        """Of everything that the judge reads of it: the labels' prompt version."""
        content = [self.name, self.system, self.question, self.think, self.ending, list(self.options.items()), self.is_chat]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def template_of(content: Any, *, name: Mode, file: str, reasoning: bool = False, needed_by: str = "") -> Template:
    """Return one mode of a template file, checked.

    Args:
        content: what the YAML file holds.
        name: of the mode.
        file: what messages call the file.
        reasoning: whether the judge is to think aloud, which the mode must then ask for.
        needed_by: the setting that asks for this mode whatever `judge.mode` says, if any.

    Raises:
        RequestError: a field is missing, unknown or of the wrong kind; a placeholder is unknown or missing; the principles are
            empty where they are shown, or shown nowhere where there are some; the options are no options.
    """
    if not isinstance(content, dict):
        raise RequestError(f"{file}: a judge is a mapping with {', '.join(FIELDS)}, got {type(content).__name__}: {PAGE}")
    _known(content, FIELDS, file)
    if name not in content:
        there = [mode for mode in PLACES if mode in content]
        remedy = f"It has {there[0]}: set judge.mode={there[0]}, or add" if there and not needed_by else "Add"
        raise RequestError(
            f"{file}: there is no {name}, which {needed_by or f'judge.mode={name}'} asks for. {remedy} {name}: {PAGE}"
        )
    fields = content[name]
    if not isinstance(fields, dict):
        raise RequestError(f"{file}: {name} must be a mapping with {', '.join(FORM_FIELDS)}, got {type(fields).__name__}: {PAGE}")
    _known(fields, FORM_FIELDS, f"{file}: {name}")
    texts = {
        field: _text(fields, field, f"{file}: {name}.{field}", is_needed=field != "think")
        for field in ("question", "think", "ending")
    }
    if reasoning and not texts["think"]:
        raise RequestError(
            f"{file}: {name}.think is empty, and judge.reasoning=true lets the judge think aloud. Write what asks it to, or set "
            "judge.reasoning=false"
        )
    texts["system"] = _text(content, "system", f"{file}: system", is_needed=False)
    filled = _with_principles(texts, _principles(content, file), name=name, file=file)
    return Template(
        name=name,
        **filled,
        options=_options(fields, name=name, file=file),
        is_chat=_flag(content, "chat", file),
    )


def _known(content: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    for field in content:
        if field not in known:
            guess = did_you_mean(str(field), known) or "."
            raise RequestError(f"{where}: there is no field {field}{guess} It has {', '.join(known)}")


def _text(content: Mapping[str, Any], field: str, where: str, *, is_needed: bool) -> str:
    text = content.get(field, "")
    if not isinstance(text, str):
        raise RequestError(f"{where} must be text, got {type(text).__name__}: put it in quotes, or behind a |")
    if is_needed and not text.strip():
        raise RequestError(f"{where} is empty, and without it there is nothing to ask. Write it: {PAGE}")
    return text


def _flag(content: Mapping[str, Any], field: str, file: str) -> bool:
    flag = content.get(field, False)
    if not isinstance(flag, bool):
        raise RequestError(f"{file}: {field} must be true or false, got {flag!r}")
    return flag


def _principles(content: Mapping[str, Any], file: str) -> list[str]:
    principles = content.get("principles") or []
    if not isinstance(principles, list) or not all(isinstance(one, str) and one.strip() for one in principles):
        raise RequestError(f"{file}: principles must be a list of sentences, one a line behind a dash, got {principles!r}")
    return [" ".join(one.split()) for one in principles]


def _with_principles(texts: Mapping[str, str], principles: list[str], *, name: Mode, file: str) -> dict[str, str]:
    """Return the texts with the principles in their place, and every placeholder known."""
    places, showing = set[str](), False
    for field, text in texts.items():
        where = f"{file}: {field if field == 'system' else f'{name}.{field}'}"
        allowed = ("principles", *PLACES[name]) if field == "question" else ("principles",)
        found = _placeholders(text, allowed, where)
        showing |= "principles" in found
        places |= found
    if missing := [place for place in PLACES[name] if place not in places]:
        raise RequestError(f"{file}: {name}.question does not show {{{missing[0]}}}, so the judge would not see it. Put it in")
    if showing and not principles:
        raise RequestError(
            f"{file}: principles is empty, and {name} shows {{principles}}. Write what to judge by, one principle a line behind "
            "a dash, or take {principles} out"
        )
    if principles and not showing:
        raise RequestError(
            f"{file}: {name} shows {{principles}} nowhere, so they would count for nothing. Put it in, say in system"
        )
    listed = "\n".join(f"{number}. {one}" for number, one in enumerate(principles, start=1))
    kept = {place: f"{{{place}}}" for place in PLACES[name]}
    doubled = listed.replace("{", "{{").replace("}", "}}")
    return {
        field: _filled(text, doubled, kept) if field == "question" else text.format(principles=listed)
        for field, text in texts.items()
    }


def _filled(question: str, principles: str, kept: Mapping[str, str]) -> str:
    """Return a question with its principles in place and all else as it was, doubled braces too."""
    parts = []
    for literal, field, _, _ in Formatter().parse(question):
        parts.append(literal.replace("{", "{{").replace("}", "}}"))
        if field is not None:
            parts.append(principles if field == "principles" else kept[field])
    return "".join(parts)


def _placeholders(text: str, allowed: tuple[str, ...], where: str) -> set[str]:
    try:
        found = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(text) if field is not None]
    except ValueError as error:
        raise RequestError(f"{where}: {error}. A brace that is meant as one is written twice: {{{{ or }}}}") from None
    for field, spec, conversion in found:
        if field not in allowed or spec or conversion:
            written = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            known = ", ".join(f"{{{one}}}" for one in allowed)
            guess = did_you_mean(field, allowed) or "."
            raise RequestError(
                f"{where}: there is no placeholder {{{written}}}{guess} It takes {known}; a brace that is meant as one is "
                "written twice"
            )
    return {field for field, _, _ in found}


def _options(fields: Mapping[str, Any], *, name: Mode, file: str) -> dict[str, float]:
    where = f"{file}: {name}.options"
    given = fields.get("options")
    rule = (
        'must be two answers, for the first place and for the second, such as [" A", " B"]'
        if name == "pairwise"
        else 'must map two answers or more to scores of 1 to 10, such as {" right": 10, " wrong": 1}'
    )
    if name == "pairwise":
        if not isinstance(given, list) or len(given) != 2 or not all(isinstance(one, str | int) for one in given):
            raise RequestError(f"{where} {rule}, got {given!r}")
        options = {str(given[0]): 1.0, str(given[1]): 0.0}
    else:
        if not isinstance(given, dict) or len(given) < 2 or not all(_is_score(score) for score in given.values()):
            raise RequestError(f"{where} {rule}, got {given!r}")
        options = {str(option): float(score) for option, score in given.items()}
    words = {option.strip().casefold() for option in options} - {""}
    if len(words) < len(given):
        raise RequestError(f"{where}: no answer may be empty, and no two the same word, got {given!r}")
    if len(set(options.values())) < 2:
        raise RequestError(f"{where}: all answers have one score, so none is better than another, got {given!r}")
    return options


def _is_score(score: Any) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and 1 <= score <= 10
