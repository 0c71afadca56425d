"""The comparison as Markdown: the same sections, sentences and numbers as the page, without its pictures."""

import re
from collections.abc import Mapping
from typing import Any

from posttrain.comparison.cells import Cell, Table
from posttrain.comparison.sections import Section, sections_of
from posttrain.comparison.verdicts import titles_of
from posttrain.printable import printable

LONGEST_ANSWER = 300
"""Characters of an answer that the Markdown shows; the page shows more, and comparison.json all."""
MOST_ANSWERS = 10
"""Questions whose answers the Markdown shows."""
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&])")


def as_markdown(comparison: Mapping[str, Any]) -> str:
    """Return a comparison (schema posttrain.comparison/1) as Markdown.

    Text of others is escaped: it makes no markup, no link and no HTML, and what turns the direction of writing is written out.
    """
    comparison = printable_all(comparison)
    sections, _ = sections_of(comparison)
    lines = ["# Comparison of methods", "", f"**{escape(comparison['verdict'])}**", "", escape(headline(comparison)), ""]
    for section in sections:
        lines += _section(section, comparison)
    return "\n".join(lines).rstrip() + "\n"


def headline(comparison: Mapping[str, Any]) -> str:
    """Return what was compared, in one line: methods, questions, seeds, dataset, day."""
    design, dataset = comparison["design"], comparison.get("dataset") or {}
    seeds = len(design["seeds"])
    parts = [
        f"{len(comparison['methods'])} methods",
        f"{design['questions']:,} held-out questions",
        f"{seeds} seed{'s' if seeds != 1 else ''}",
        f"dataset {dataset['name']}"
        if dataset.get("name")
        else "results of other tools"
        if comparison["source"] == "logs"
        else "",
        str(comparison.get("created") or "")[:10],
        f"comparison {comparison['id']}",
    ]
    failed = len(comparison.get("failed") or [])
    if comparison.get("status") == "partial":
        parts.append(f"partial: {failed} run{'s' if failed != 1 else ''} did not finish" if failed else "partial")
    return " · ".join(part for part in parts if part)


def printable_all(value: Any) -> Any:
    """Return a value of the JSON with every text in it made printable, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): printable_all(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [printable_all(one) for one in value]
    return value


def escape(text: str) -> str:
    """Return a text as Markdown that shows it as it is, on one line."""
    flat = " ".join(text.split())
    escaped = _SPECIAL.sub(r"\\\1", flat).replace("\\&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;")
    # a bare address would become a link by itself
    return escaped.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def _section(section: Section, comparison: Mapping[str, Any]) -> list[str]:
    return section_lines(section) + (_answers(comparison) if section.name == "answers" else [])


def section_lines(section: Section) -> list[str]:
    """Return what a section holds as lines of Markdown, with a heading of level 2; of any page, not only a comparison's."""
    lines = [f"## {section.title}", ""]
    for paragraph in filter(None, (*section.lead, section.says)):
        lines += [escape(paragraph), ""]
    if section.items:
        lines += [*(f"- {escape(item)}" for item in section.items), ""]
    if section.facts:
        lines += [*(f"- {escape(word)}: {escape(text)}" for word, text in section.facts), ""]
    for table in (*section.tables, *section.numbers):
        lines += _table(table)
    return lines


def _table(table: Table) -> list[str]:
    heads = [escape(column.title) for column in table.columns]
    rules = ["---:" if column.is_number else "---" for column in table.columns]
    rows = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in table.rows]
    note = [escape(table.note), ""] if table.note else []
    return [escape(table.caption), "", f"| {' | '.join(heads)} |", f"|{'|'.join(rules)}|", *rows, "", *note]


def _cell(cell: Cell) -> str:
    if cell.kind == "code" and "`" not in cell.text and "|" not in cell.text and "\n" not in cell.text and len(cell.text) > 1:
        return f"`{cell.text}`"
    return escape(cell.text)


def _answers(comparison: Mapping[str, Any]) -> list[str]:
    titles, lines = titles_of(comparison), []
    for answer in comparison["answers"][:MOST_ANSWERS]:
        right = ", ".join(map(str, answer.get("answers") or []))
        lines += [f"- {escape(_short(answer['prompt']))}{f' (right: {escape(right)})' if right else ''}"]
        for name, given in answer["by"].items():
            mark = {True: "✓ ", False: "✗ "}.get(given.get("is_right"), "")
            lines.append(f"  - {mark}{escape(titles.get(name, name))}: {escape(_short(given.get('text') or ''))}")
    rest = len(comparison["answers"]) - MOST_ANSWERS
    return [*lines, "", *([f"{rest} more are in comparison.json and on the page.", ""] if rest > 0 else [])]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_ANSWER else f"{text[:LONGEST_ANSWER]} …"
