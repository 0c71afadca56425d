"""Questions with an answer that can be checked: grade-school problems, competition problems, multiple choice, plain pairs."""

import re
from collections.abc import Mapping
from typing import Any

from posttrain.data.formats.fields import CHECKABLE, PROMPT_FIELDS, REFERENCE_FIELDS, references
from posttrain.data.formats.items import Item, as_list, as_reference, shown
from posttrain.data.formats.pairs import given_prompt
from posttrain.graders.answer import Rules, grade
from posttrain.records import Demonstration, Question, Record

CHOICES = ("choices", "options")
WORKED = ("answer_cot", "rationale", "explanation", "cot", "solution", "completion", "response", "output")
"""Where a dataset keeps the way to the answer, most telling name first."""
LETTERS = "ABCDEFGHIJ"

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_WHOLE_FLOAT = re.compile(r"(?<![\w.])(\d+)\.0+(?![\w.])")
_IN_ANGLES = re.compile(r"(answer is:?\s*)<([^<>\n]+)>", re.IGNORECASE)
_NEEDS_MARKER = Rules(needs_marker=True)


def gsm8k(item: Item) -> Record:
    """Read a grade-school problem; calculator annotations are dropped, since no calculator answers them here.

    Its relatives under other names are read as `qa` reads them: MATH (`problem`, `solution`), the ReFT authors' files
    (`answer_cot`, `answer_value`), MMLU (`choices`).
    """
    others = (*WORKED, *REFERENCE_FIELDS) if "answer" not in item.row else ("answer_cot",)
    if (item.has("question") or item.has("problem")) and (_choices(item) or any(map(item.has, others))):
        return qa(item)
    solution = item.text("answer")
    before, marker, answer = solution.rpartition("####")
    if not marker or not answer.strip():
        item.fail(f'answer must end in "#### <final answer>", got {shown(solution)}{item.other_format()}')
    completion = _CALCULATOR.sub("", before) + marker + answer.rstrip()
    return Demonstration(id=f"gsm8k-{item.number}", prompt=item.text("question"), completion=completion, answer=answer.strip())


def svamp(item: Item) -> Record:
    """Read a SVAMP problem; its completion shows the equation, then "Answer: N"."""
    body = item.text("Body").strip()
    prompt = f"{body}{'' if body[-1:] in '.,?!' else ','} {item.text('Question').strip()}".strip()
    answer = as_reference(item, "Answer", item.get("Answer"))
    equation = _WHOLE_FLOAT.sub(r"\1", item.text("Equation")).strip()
    if equation.startswith("(") and equation.endswith(")") and equation.count("(") == 1:
        equation = equation[1:-1].strip()
    return Demonstration(
        id=f"svamp-{item.number}", prompt=prompt, completion=f"{equation} = {answer}\nAnswer: {answer}", answer=answer
    )


def qa(item: Item) -> Record:
    """Read a question with its answer, and with the way to it where the row shows one.

    A short answer is imitated as "Answer: …", so that it can be found in a response; a long one is imitated as it is, and
    cannot be checked. Several right answers are a question without a completion.
    """
    name = f"{item.form if item.form == 'gsm8k' else 'qa'}-{item.number}"
    if field := _choices(item):
        return _multiple_choice(item, name, field)
    prompt = given_prompt(item)
    if prompt is None:
        item.fail(f"there is no field question (there is: {shown(', '.join(map(str, item.row)))}){item.other_format()}")
    worked, answers = _worked(item), references(item)
    if item.has("answer_value"):  # the ReFT authors write whole numbers as 72.0
        answers = tuple(_WHOLE_FLOAT.sub(r"\1", answer) for answer in answers)
    if not worked and not answers:
        item.fail(f"there is no answer (there is: {shown(', '.join(map(str, item.row)))}){item.other_format()}")
    if not worked and len(answers) > 1:
        return Question(id=name, prompt=prompt, answers=answers)
    if not worked or answers == (worked,):
        (answer,) = answers
        if len(answer) > CHECKABLE or "\n" in answer.strip():
            item.note("an answer too long to be checked: it is imitated, and the question has nothing to check against")
            return Demonstration(id=name, prompt=prompt, completion=answer)
        return Demonstration(id=name, prompt=prompt, completion=f"Answer: {answer}", answer=answer)
    if len(answers) != 1:
        return Demonstration(id=name, prompt=prompt, completion=worked)
    is_said = "def solution" in worked or grade(worked, answers, rules=_NEEDS_MARKER).extracted is not None
    completion = worked if is_said else f"{worked.rstrip()}\nAnswer: {answers[0]}"
    return Demonstration(id=name, prompt=prompt, completion=completion, answer=answers[0])


def reft(item: Item) -> Record:
    """Read a row of the ReFT authors' files (arXiv:2401.08967): a question, its answer, and a program or text as the way there.

    A row without the way, as in their test files, is a question.
    """
    if not item.has("answer_value"):
        item.get("answer_value")  # says what there is instead
        item.wrong("answer_value", "a number or text", item.row["answer_value"])
    name = f"reft-{item.number}"
    if item.has("item_id"):
        name = f"reft-{as_reference(item, 'item_id', item.get('item_id'))}"
    if item.has("answer_cot"):
        return qa(item).model_copy(update={"id": name})
    item.used.add("answer_cot")
    prompt = item.text("question")
    answer = _WHOLE_FLOAT.sub(r"\1", as_reference(item, "answer_value", item.get("answer_value")))
    return Question(id=name, prompt=prompt, answers=(answer,))


def _worked(item: Item) -> str:
    """Return the way to the answer: a field of its own, or an answer that ends in its final answer; "" where there is none."""
    for field in WORKED:
        if item.has(field) and isinstance(item.row[field], str):
            return _CALCULATOR.sub("", _IN_ANGLES.sub(r"\1\2", item.text(field)))
    answer = item.row.get("answer")
    is_whole = isinstance(answer, str) and ("####" in answer or "\\boxed" in answer) and len(answer.split()) > 2
    return _CALCULATOR.sub("", item.text("answer")) if is_whole else ""


def _choices(item: Item) -> str:
    return next((field for field in CHOICES if isinstance(item.row.get(field), list | tuple | Mapping)), "")


def _multiple_choice(item: Item, name: str, field: str) -> Record:
    """Read a question with its choices, and with the right one given by index, letter or text."""
    value = item.get(field)
    labels: Any = value.get("label") if isinstance(value, Mapping) else None
    texts = [str(text) for text in as_list(item, field, value.get("text") if isinstance(value, Mapping) else value)]
    if not 2 <= len(texts) <= len(LETTERS):
        item.fail(f"{field} must hold 2 to {len(LETTERS)} choices, got {len(texts)}")
    question = next((item.text(name) for name in PROMPT_FIELDS if item.has(name)), "")
    if not question:
        item.fail("there is no field question beside the choices")
    prompt = "\n".join([f"{question.rstrip()}\n", *(f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False))])
    given = next((each for each in ("answer", "answerKey", "answer_index", "label", "correct_answer") if item.has(each)), "")
    if not given:
        return Question(id=name, prompt=prompt)
    right = _right_choice(item, given, item.get(given), texts, labels)
    return Demonstration(id=name, prompt=prompt, completion=f"Answer: {LETTERS[right]}", answer=LETTERS[right])


def _right_choice(item: Item, field: str, value: Any, texts: list[str], labels: Any) -> int:
    """Return the index of the right choice."""
    names = [str(label).upper() for label in labels] if isinstance(labels, list | tuple) else list(LETTERS[: len(texts)])
    if isinstance(value, str):
        said = value.strip()
        for known in ([text.strip() for text in texts], names):
            if known.count(said) == 1 or known.count(said.upper()) == 1:
                return known.index(said) if said in known else known.index(said.upper())
        value = int(said) if said.isdecimal() and len(said) < 3 else value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(texts):
        return value
    return item.wrong(field, f"an index from 0 to {len(texts) - 1}, a letter or the text of one choice", value)
