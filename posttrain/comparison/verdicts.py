"""Verdicts of a comparison as tables have them: which pairs were told apart, and how surely."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posttrain.comparison.cells import Cell, Table, columns, number, words
from posttrain.comparison.numbers import NOTHING, Scale, count, probability, scale_of

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """How a verdict is told without colour.

    Attributes:
        symbol: before the number in a grid.
        says: in two or three words.
        is_told_apart: drawn in a colour of its own, and filled.
    """

    symbol: str
    says: str
    is_told_apart: bool


LOOKS = {
    "better": Look("▲", "better", True),
    "worse": Look("▼", "worse", True),
    "equal": Look("=", "equal within the margin", False),
    "undecided": Look("?", "not told apart", False),
    "disagree": Look("⇅", "the seeds disagree", False),
}
TURNED = {"better": "worse", "worse": "better"}
"""The verdict of the same pair read from its other side, where it differs."""
FAMILIES = {"reference": "with the reference", "best": "best with the rest", "all": "every pair"}


def reference_of(comparison: Record) -> Record:
    """Return the method that the others are compared with."""
    methods: list[Record] = comparison["methods"]
    named = comparison["design"]["reference"]
    return next(one for one in methods if one["name"] == named)


def titles_of(comparison: Record) -> dict[str, str]:
    """Return the titles of methods by name."""
    return {one["name"]: one.get("title") or one["name"] for one in comparison["methods"]}


def gains_of(comparison: Record) -> dict[str, tuple[int, Record]]:
    """Return by method its comparison with the reference, and where among the pairs it stands."""
    pairs = enumerate(comparison.get("pairs") or [])
    return {pair["a"]: (index, pair) for index, pair in pairs if pair["family"] == "reference"}


def ordered(comparison: Record) -> list[tuple[int, Record]]:
    """Return (place in the JSON, method) from the highest gain to the lowest, the reference where its zero lies."""
    gains = gains_of(comparison)

    def gain(entry: tuple[int, Record]) -> float:
        pair = gains.get(entry[1]["name"])
        return float(pair[1]["estimate"]) if pair else 0.0

    return sorted(enumerate(comparison["methods"]), key=gain, reverse=True)


def gain_cell(comparison: Record, method: Record, scale: Scale) -> Cell:
    """Return the gain of a method over the reference."""
    pair = gains_of(comparison).get(method["name"])
    return number(comparison, f"/pairs/{pair[0]}", scale.gain, kind=pair[1]["verdict"]) if pair else Cell("reference", order=0.0)


def verdict_cell(comparison: Record, method: Record) -> Cell:
    """Return the verdict of a method against the reference in words."""
    pair = gains_of(comparison).get(method["name"])
    if pair is None:
        return words("")
    look = LOOKS[pair[1]["verdict"]]
    # the words of the record hold numbers, so they name their source as a number does
    return Cell(f"{look.symbol} {pair[1].get('words') or look.says}", f"/pairs/{pair[0]}/words", kind=pair[1]["verdict"])


def gains_table(comparison: Record) -> Table:
    """Return every comparison with the reference: the interval that is drawn, the one that decides, and p."""
    scale, gains = scale_of(comparison), gains_of(comparison)
    titles = titles_of(comparison)
    rows = []
    for _, method in ordered(comparison):
        if method["name"] in gains:
            index, pair = gains[method["name"]]
            rows.append((words(titles[pair["a"]]), *_pair_cells(comparison, index, pair, scale), _needs(pair, index, scale)))
    unit = f", {scale.gain_unit}" if scale.gain_unit else ""
    reference = titles[comparison["design"]["reference"]]
    return Table(
        "gains",
        f"Paired gain of each method over {reference}.",
        columns(
            "method",
            f"#gain{unit}",
            f"#interval that decides{unit}",
            "#p",
            "#p after Holm",
            f"#smallest effect seen{unit}",
            "verdict",
            "what would show more",
        ),
        tuple(rows),
    )


def _needs(pair: Record, index: int, scale: Scale) -> Cell:
    """Return the designs that would show an effect where this one does not tell the two apart."""
    if LOOKS[pair["verdict"]].is_told_apart or not pair.get("needs"):
        return words("")
    said = [
        f"{scale.effect(one['effect'])}: {count(one['seeds'])} seeds × {count(one['questions'])} questions"
        for one in pair["needs"]
    ]
    return Cell("; ".join(said), f"/pairs/{index}/needs")


def _pair_cells(comparison: Record, index: int, pair: Record, scale: Scale) -> tuple[Cell, ...]:
    at, kind = f"/pairs/{index}", pair["verdict"]
    low, high = pair.get("low_decides"), pair.get("high_decides")
    deciding = words("") if low is None or high is None else Cell(f"[{scale.plain(low)}, {scale.plain(high)}]", at, float(low))
    return (
        number(comparison, at, scale.gain, kind=kind),
        deciding,
        number(comparison, f"{at}/p", probability),
        number(comparison, f"{at}/p_holm", probability),
        number(comparison, f"{at}/smallest_effect", scale.plain),
        words(f"{LOOKS[kind].symbol} {LOOKS[kind].says}", kind=kind),
    )


def families_table(comparison: Record) -> Table:
    """Return the pairs that are no comparison with the reference: the best against the rest, and every pair."""
    scale, titles = scale_of(comparison), titles_of(comparison)
    rows = tuple(
        (
            words(f"{titles.get(pair['a'], pair['a'])} − {titles.get(pair['b'], pair['b'])}"),
            words(FAMILIES.get(pair["family"], pair["family"])),
            *_pair_cells(comparison, index, pair, scale),
        )
        for index, pair in enumerate(comparison.get("pairs") or [])
        if pair["family"] != "reference"
    )
    unit = f", {scale.gain_unit}" if scale.gain_unit else ""
    heads = (
        "pair",
        "family",
        f"#difference{unit}",
        f"#interval that decides{unit}",
        "#p",
        "#p after Holm",
        f"#smallest effect seen{unit}",
        "verdict",
    )
    return Table("pairs", "Every other comparison, by the family that it is corrected in.", columns(*heads), rows)


def grid_table(comparison: Record) -> Table | None:
    """Return every pair as a grid: the row's method minus the column's; None where the JSON has no family of all pairs."""
    scale, titles = scale_of(comparison), titles_of(comparison)
    by_pair = {
        (pair["a"], pair["b"]): (index, pair)
        for index, pair in enumerate(comparison.get("pairs") or [])
        if pair["family"] == "all"
    }
    if not by_pair:
        return None
    named = [method["name"] for _, method in ordered(comparison)]
    rows = tuple((words(titles[a]), *(_grid_cell(by_pair, a, b, scale) for b in named)) for a in named)
    unit = f", in {scale.gain_unit}" if scale.gain_unit else ""
    return Table(
        "grid",
        f"Row minus column{unit}: ▲ the row is better, ▼ it is worse, = equal within the margin, ? not told apart, "
        "⇅ the seeds disagree.",
        columns("", *(f"#{titles[name]}" for name in named)),
        rows,
    )


def _grid_cell(by_pair: Mapping[tuple[str, str], tuple[int, Record]], a: str, b: str, scale: Scale) -> Cell:
    """Return the cell of a pair; the JSON holds each pair once, so from its other side the sign and the verdict are turned."""
    if a == b:
        return Cell("·")
    if (a, b) in by_pair:
        index, pair = by_pair[a, b]
        sign, verdict = 1.0, pair["verdict"]
    elif (b, a) in by_pair:
        index, pair = by_pair[b, a]
        sign, verdict = -1.0, TURNED.get(pair["verdict"], pair["verdict"])
    else:
        return Cell(NOTHING)
    value = sign * pair["estimate"]
    return Cell(f"{LOOKS[verdict].symbol} {scale.signed(value)}", f"/pairs/{index}/estimate", value, verdict)


def groups_table(comparison: Record) -> Table | None:
    """Return the gain over the reference by group of questions, None where the questions have no groups."""
    groups = comparison.get("groups")
    if not groups:
        return None
    scale, titles = scale_of(comparison), titles_of(comparison)
    present = [
        method["name"] for _, method in ordered(comparison) if any(method["name"] in one["methods"] for one in groups["groups"])
    ]
    rows = []
    for place, group in enumerate(groups["groups"]):
        cells = [words(group["name"]), number(comparison, f"/groups/groups/{place}/questions", count)]
        for name in present:
            entry = group["methods"].get(name)
            at = f"/groups/groups/{place}/methods/{name.replace('~', '~0').replace('/', '~1')}"
            cell = number(comparison, at, scale.gain)
            verdict = (entry or {}).get("verdict")
            cells.append(Cell(f"{LOOKS[verdict].symbol} {cell.text}", cell.source, cell.order, verdict) if verdict else cell)
        rows.append(tuple(cells))
    unit = f", in {scale.gain_unit}" if scale.gain_unit else ""
    by, reference = groups.get("title") or groups.get("by"), titles[comparison["design"]["reference"]]
    return Table(
        "groups",
        f"Gain over {reference} by {by}{unit}, corrected over all of its cells.",
        columns("group", "#questions", *(f"#{titles[name]}" for name in present)),
        tuple(rows),
    )
