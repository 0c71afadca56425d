"""Plain facts about records, from which the data gate judges: counts, marks, and which rows repeat, leak or contradict.

A fact is a number, a truth value or a short word a row; whether it is good or bad is said by the suites in
`data/expectations/`, never here. Facts that need the whole file (repeats, contradictions, shares of a label) are found
by 64-bit fingerprints, so no text is kept (a million preferences: 0.5 GB, measured). Two different texts share a fingerprint
with probability n² / 2⁶⁵: 3e-8 for a million rows.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posttrain.digests import text_number
from posttrain.graders.answer import grade, normalised
from posttrain.prompts import plain
from posttrain.records import Demonstration, Message, Preference, Prompt, Question, Ranking, Rating, Record, Text

Fingerprints = NDArray[np.uint64]
Column = NDArray[Any]

FEWEST_LABELS = 20
"""Labelled rows below which `label_share` stays 0: in three rows every answer is a majority."""

FACTS: dict[str, tuple[str, str]] = {
    # name: (dtype, meaning); NaN and None say that the fact does not apply to the row
    "text_characters": ("int32", "characters of the document, white space not counted"),
    "prompt_characters": ("int32", "characters of the prompt (of its last message), white space not counted"),
    "completion_characters": ("float64", "characters of the shortest completion, white space not counted"),
    "reference_answers": ("int32", "answers that a response can be checked against"),
    "answer_characters": ("float64", "characters of the shortest answer, white space not counted"),
    "unprintable_characters": ("int32", "control characters, NUL to U+009F without tab, line and page breaks"),
    "replacement_characters": ("int32", "U+FFFD and lone surrogates: what a wrong decoding left behind"),
    "mojibake_marks": ("int32", "places that look like UTF-8 read as Latin-1, such as Ã©"),
    "prompt_tokens": ("int32", "tokens of the prompt in the model in use, with its chat template"),
    "completion_tokens": ("int32", "tokens of the longest completion, or of a held-out question's reference, with EOS; 0: none"),
    "total_tokens": ("int32", "tokens of the prompt and the longest completion, with chat template and EOS"),
    "final_answer": ("object", "`right`, `wrong` or `missing`: the completion's answer against the row's own"),
    "chosen_is_rejected": ("bool", "chosen and rejected are the same text"),
    "margin": ("float64", "the margin as given; 0 where it is not a finite number"),
    "scale_width": ("float64", "high - low of the rating's scale"),
    "completions": ("int32", "completions that are ranked"),
    "distinct_ranks": ("int32", "different ranks among them"),
    "lowest_rank": ("int32", "the best rank given"),
    "ranks_beyond_completions": ("int32", "ranks greater than the number of completions"),
    "leaks_from": ("object", "file and line of the held-out row with the same prompt"),
    "family_leaks_from": ("object", "file and line of the held-out row of the same family"),
    "duplicate_of_line": ("float64", "first line with the same content, `id` aside"),
    "same_prompt_as_line": ("float64", "first line with the same prompt but other content"),
    "same_id_as_line": ("float64", "first line with the same `id`"),
    "label_share": ("float64", f"share of the row's label among all; 0 below {FEWEST_LABELS} labelled rows"),
    "contradicts_own_line": ("float64", "a line in which the same annotator says the opposite"),
    "contradicts_other_line": ("float64", "a line in which another, or an unnamed, annotator says the opposite"),
}
"""Every column that a suite may name, beside the texts of the record itself."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_REPLACEMENT = re.compile("[\ufffd\ud800-\udfff]")
_PROGRAM = re.compile(r"^\s*def solution\(", re.MULTILINE)
_MOJIBAKE = re.compile("[ÂÃ][\x80-\xbf]|Ã[ƒ€‚„†‡ˆ‰Š‹Œš›œžŸ]|â€[™œ\x9d“”˜¦¢\x98-\xbf]|â\x80|ðŸ|ï»¿")


@dataclass(frozen=True)
class HeldOut:
    """Where each held-out prompt and family lies, by fingerprint: "held_out.jsonl line 17"."""

    prompts: Mapping[int, str] = field(default_factory=dict)
    families: Mapping[int, str] = field(default_factory=dict)


def turns(prompt: Prompt) -> list[str]:
    """Return the text of each message; a plain prompt is one message."""
    return [prompt] if isinstance(prompt, str) else [message.content for message in prompt]


def prompt_key(prompt: Prompt) -> str:
    """Return what two prompts have in common that ask the same: lower case, single spaces, no roles."""
    return " ".join("\n".join(turns(prompt)).casefold().split())


def completions_of(record: Record) -> tuple[str, ...]:
    """Return the completions that a record holds, the chosen one first."""
    match record:
        case Demonstration() | Rating():
            return (record.completion,)
        case Preference():
            return (record.chosen, record.rejected)
        case Ranking():
            return record.completions
    return ()


def answers_of(record: Record) -> tuple[str, ...]:
    """Return the answers that count as right, none where nothing can be checked."""
    match record:
        case Demonstration(answer=str(answer)):
            return (answer,)
        case Question():
            return record.answers
    return ()


def filled_characters(text: str) -> int:
    """Return the number of characters, white space not counted."""
    return len("".join(text.split()))


def encoding_facts(texts: Sequence[str]) -> dict[str, int]:
    """Return how many marks of a broken encoding the texts bear."""
    joined = "\n".join(texts)
    is_plain = joined.isascii()
    return {
        "unprintable_characters": len(_UNPRINTABLE.findall(joined)),
        "replacement_characters": 0 if is_plain else len(_REPLACEMENT.findall(joined)),
        "mojibake_marks": 0 if is_plain else len(_MOJIBAKE.findall(joined)),
    }


def final_answer(record: Demonstration) -> str | None:
    """Return `right`, `wrong` or `missing`; None where the row gives no answer to compare with, or a program has to run first."""
    if record.answer is None or not record.answer.strip() or _PROGRAM.search(record.completion):
        return None
    verdict = grade(record.completion, (record.answer,))
    if verdict.extracted is None:
        return "missing"
    return "right" if verdict.is_right else "wrong"


def row_facts(record: Record) -> dict[str, Any]:
    """Return the facts that one row shows by itself, tokens aside."""
    if isinstance(record, Text):
        return {"text_characters": filled_characters(record.text), **encoding_facts((record.text,))}
    prompt: Prompt = record.prompt  # type: ignore[attr-defined]  # every kind but Text has one
    messages, completions, answers = turns(prompt), completions_of(record), answers_of(record)
    facts: dict[str, Any] = {
        "prompt_characters": filled_characters(messages[-1]) if messages else 0,
        "completion_characters": min(map(filled_characters, completions), default=np.nan),
        "answer_characters": min(map(filled_characters, answers), default=np.nan),
        **encoding_facts((*messages, *completions, *answers)),
    }
    match record:
        case Demonstration():
            facts["final_answer"] = final_answer(record)
        case Question():
            facts["reference_answers"] = sum(bool(answer.strip()) for answer in record.answers)
        case Preference():
            facts["chosen_is_rejected"] = record.chosen.strip() == record.rejected.strip()
            facts["margin"] = np.nan if record.margin is None else float(np.nan_to_num(record.margin, posinf=0.0, neginf=0.0))
        case Rating():
            facts["scale_width"] = record.high - record.low
        case Ranking():
            facts["completions"] = len(completions)
            facts["distinct_ranks"] = len(set(record.ranks))
            facts["lowest_rank"] = min(record.ranks, default=0)
            facts["ranks_beyond_completions"] = sum(rank > len(completions) for rank in record.ranks)
    return facts


def label_of(record: Record) -> str | None:
    """Return what a file is out of balance in: its answers, its scores, or whether the longer completion is chosen."""
    match record:
        case Rating():
            return f"{record.score:g}"
        case Preference():
            difference = len(record.chosen) - len(record.rejected)
            return None if difference == 0 else "longer" if difference > 0 else "shorter"
    answers = answers_of(record)
    return normalised(answers[0]) if answers else None


def opinions_of(record: Record) -> Iterator[tuple[int, int]]:
    """Yield (question, stance) fingerprints: one question, two stances: a contradiction.

    A preference asks which of two completions is better; a ranking asks so for each of its pairs, ties left out; a rating asks
    which score a completion has.
    """
    match record:
        case Rating():
            scale = f"{record.low:g}..{record.high:g}"
            yield text_number(prompt_key(record.prompt), record.completion.strip(), scale), text_number(f"{record.score:g}")
            return
        case Preference():
            key, ordered = prompt_key(record.prompt), [(record.chosen, 1), (record.rejected, 2)]
        case Ranking():
            key, ordered = prompt_key(record.prompt), list(zip(record.completions, record.ranks, strict=True))
        case _:
            return
    for place, (first, first_rank) in enumerate(ordered):
        for second, second_rank in ordered[place + 1 :]:
            better, worse = (first.strip(), second.strip()) if first_rank < second_rank else (second.strip(), first.strip())
            if first_rank != second_rank and better != worse:
                yield text_number(key, *sorted((better, worse))), 1 if better < worse else 2


def token_facts(
    records: Sequence[Record],
    *,
    count_tokens: Callable[[list[str]], list[int]],
    prompt_text: Callable[[Prompt], str] = plain,
    end_tokens: int = 0,
) -> dict[str, list[int]]:
    """Return `prompt_tokens`, `completion_tokens` and `total_tokens` of each record; every different text is counted once.

    A reference is held out and never learnt from, so it is no part of what must fit into the context.

    Args:
        records: of any kind that has a prompt.
        count_tokens: tokens of each text by itself, with those that the tokenizer puts around every text.
        prompt_text: the text that stands before the completion, chat template and all.
        end_tokens: what a completion has beyond its text: EOS, less the tokens that `count_tokens` puts around a text.
    """
    prompts = [prompt_text(record.prompt) for record in records]  # type: ignore[attr-defined]  # never asked for Text
    completions = [completions_of(record) for record in records]
    references = [getattr(record, "reference", None) for record in records]
    texts = list(dict.fromkeys([*prompts, *(text for row in completions for text in row), *filter(None, references)]))
    tokens = dict(zip(texts, count_tokens(texts), strict=True))
    prompt_tokens = [tokens[prompt] for prompt in prompts]
    longest = [max((tokens[text] + end_tokens for text in row), default=0) for row in completions]
    totals = [prompt + most for prompt, most in zip(prompt_tokens, longest, strict=True)]
    of_reference = [tokens[text] + end_tokens if text else 0 for text in references]
    told = [most or held for most, held in zip(longest, of_reference, strict=True)]
    return {"prompt_tokens": prompt_tokens, "completion_tokens": told, "total_tokens": totals}


def first_lines(keys: Fingerprints) -> Column:
    """Return for each row the line (from 1) of the first row with the same key; NaN where it is the first itself."""
    if not len(keys):
        return np.zeros(0)
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    earliest = first[group]
    return np.where(earliest == np.arange(len(keys)), np.nan, earliest + 1)


def shares(labels: Fingerprints) -> Column:
    """Return the share of each row's label among the labelled rows; 0 where there is no label (0) or too few of them."""
    result = np.zeros(len(labels))
    is_labelled = labels != 0
    if is_labelled.sum() >= FEWEST_LABELS:
        _, group, count = np.unique(labels[is_labelled], return_inverse=True, return_counts=True)
        result[is_labelled] = count[group] / is_labelled.sum()
    return result


def opposing_lines(line: Column, question: Fingerprints, stance: Fingerprints) -> Column:
    """Return for each opinion the first line with another stance on the same question; 0 where all agree.

    Args:
        line: the line that holds the opinion, from 1. (opinions,), ascending.
        question: what the opinion is about. (opinions,).
        stance: what it says. (opinions,).
    """
    if not len(line):
        return np.zeros(0, dtype=np.int64)
    order = np.argsort(question, kind="stable")
    sorted_line, sorted_stance, sorted_question = line[order], stance[order], question[order]
    starts = np.flatnonzero(np.r_[True, sorted_question[1:] != sorted_question[:-1]])
    group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(line)]))
    differs = sorted_stance != sorted_stance[starts][group]
    nowhere = len(line)
    first_other = np.minimum.reduceat(np.where(differs, np.arange(len(line)), nowhere), starts)[group]
    line_or_none = np.r_[sorted_line, 0]
    opposing = np.where(differs, sorted_line[starts][group], line_or_none[first_other])
    result = np.empty(len(line), dtype=np.int64)
    result[order] = opposing
    return result


class FactTable:
    """The facts of one file, gathered chunk by chunk."""

    def __init__(
        self,
        kind: type[Record],
        *,
        count_tokens: Callable[[list[str]], list[int]],
        held_out: HeldOut,
        texts: Collection[str] = (),
        prompt_text: Callable[[Prompt], str] = plain,
        end_tokens: int = 0,
    ) -> None:
        """Begin an empty table.

        Args:
            kind: what every row is.
            count_tokens: tokens of each text in the model in use; not called for `Text`.
            held_out: what the rows must not repeat; empty for the held-out files themselves.
            texts: fields of the record to keep as they are, because a suite names them.
            prompt_text: as `token_facts` has it.
            end_tokens: likewise.
        """
        self.rows = 0
        self._is_text = kind is Text
        self._count_tokens, self._held_out, self._texts = count_tokens, held_out, texts
        self._prompt_text, self._end_tokens = prompt_text, end_tokens
        self._chunks: dict[str, list[Column]] = {}
        self._prints: dict[str, list[Fingerprints]] = {name: [] for name in ("content", "prompt", "id", "label", "family")}
        self._opinions: list[NDArray[np.uint64]] = []

    def add(self, records: Sequence[Record]) -> None:
        """Take in the next rows of the file."""
        facts = [row_facts(record) for record in records]
        columns: dict[str, list[Any]] = {name: [row[name] for row in facts] for name in facts[0]} if facts else {}
        if not self._is_text:
            columns |= token_facts(
                records, count_tokens=self._count_tokens, prompt_text=self._prompt_text, end_tokens=self._end_tokens
            )
            columns |= self._leaks(records)
            self._add_fingerprints(records)
        for name, values in columns.items():
            self._chunks.setdefault(name, []).append(np.array(values, dtype=FACTS[name][0]))
        for name in self._texts:
            self._chunks.setdefault(name, []).append(
                np.array([_as_cell(getattr(record, name)) for record in records], dtype=object)
            )
        self.rows += len(records)

    def _leaks(self, records: Sequence[Record]) -> dict[str, list[Any]]:
        prompts, families = self._held_out.prompts, self._held_out.families
        keys = [text_number(prompt_key(record.prompt)) for record in records]  # type: ignore[attr-defined]
        self._prints["prompt"].append(np.array(keys, dtype=np.uint64))
        family_keys = [text_number(record.family) if record.family is not None else 0 for record in records]
        self._prints["family"].append(np.array(family_keys, dtype=np.uint64))
        return {
            "leaks_from": [prompts.get(key) for key in keys],
            "family_leaks_from": [families.get(key) for key in family_keys],
        }

    def _add_fingerprints(self, records: Sequence[Record]) -> None:
        labels = [label_of(record) for record in records]
        prints = {
            "content": [text_number(record.model_dump_json(exclude={"id"})) for record in records],
            "id": [text_number(record.id) for record in records],
            "label": [0 if label is None else text_number(label) for label in labels],
        }
        for name, values in prints.items():
            self._prints[name].append(np.array(values, dtype=np.uint64))
        opinions = [
            (line, question, stance, text_number(annotator) if (annotator := getattr(record, "annotator", None)) else 0)
            for line, record in enumerate(records, start=self.rows + 1)
            for question, stance in opinions_of(record)
        ]
        self._opinions.append(np.array(opinions, dtype=np.uint64).reshape(-1, 4))

    def columns(self) -> dict[str, Column]:
        """Return every fact of every row, those of the whole file included."""
        columns = {name: np.concatenate(chunks) for name, chunks in self._chunks.items()}
        if self._is_text or not self.rows:
            return columns
        prints = {name: np.concatenate(chunks) for name, chunks in self._prints.items()}
        duplicate_of = first_lines(prints["content"])
        columns["duplicate_of_line"] = duplicate_of
        columns["same_prompt_as_line"] = np.where(np.isnan(duplicate_of), first_lines(prints["prompt"]), np.nan)
        columns["same_id_as_line"] = first_lines(prints["id"])
        columns["label_share"] = shares(prints["label"])
        return columns | self._contradictions()

    def _contradictions(self) -> dict[str, Column]:
        line, question, stance, annotator = np.concatenate(self._opinions).T
        is_named = annotator != 0
        # One question of one annotator; the odd constant spreads the annotator's bits (Fibonacci hashing).
        asked = question ^ (annotator * np.uint64(0x9E3779B97F4A7C15))
        own = self._by_row(line[is_named], opposing_lines(line[is_named], asked[is_named], stance[is_named]))
        is_steady = np.isnan(own[line.astype(np.int64) - 1])
        other = self._by_row(line[is_steady], opposing_lines(line[is_steady], question[is_steady], stance[is_steady]))
        return {"contradicts_own_line": own, "contradicts_other_line": other}

    def _by_row(self, line: Column, opposing: Column) -> Column:
        result = np.full(self.rows, np.nan)
        is_opposed = opposing > 0
        result[line[is_opposed][::-1].astype(np.int64) - 1] = opposing[is_opposed][::-1]
        return result

    def held_out(self, file: str) -> HeldOut:
        """Return the prompts and families of this table as what training rows must not repeat."""
        prompts, families = ([int(key) for chunk in self._prints[name] for key in chunk] for name in ("prompt", "family"))
        places = [f"{file} line {line}" for line in range(1, self.rows + 1)]
        return HeldOut(
            prompts=dict(zip(reversed(prompts), reversed(places), strict=True)),
            families={key: place for key, place in zip(reversed(families), reversed(places), strict=True) if key},
        )


def _as_cell(value: Any) -> Any:
    """Return a field as a suite can match it: messages as their transcript, lists an entry a line."""
    if not isinstance(value, tuple):
        return value
    return plain(value) if value and isinstance(value[0], Message) else "\n".join(map(str, value))
