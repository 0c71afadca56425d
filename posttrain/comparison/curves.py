"""Learning curves, and proxy against gold, of a comparison: what there is to draw, and its last points as a table."""

from collections.abc import Mapping
from typing import Any

from posttrain.comparison.cells import Table, columns, number, words
from posttrain.comparison.numbers import Form, amount, count, decimal, minutes, scale_of
from posttrain.comparison.verdicts import ordered, titles_of

Record = Mapping[str, Any]

LEARNING_AXES: tuple[tuple[str, str, Form], ...] = (
    ("labels", "labels", count),
    ("trained_tokens", "tokens trained", amount),
    ("generated_tokens", "tokens generated", amount),
    ("seconds", "minutes", minutes),
)
"""Key of a point, title of the axis, how a value on it is written."""


def learning_axes(comparison: Record) -> list[tuple[str, str, Form]]:
    """Return the axes along which any point of any curve moves."""
    points = [point for _, method in ordered(comparison) for curve in method.get("learning") or [] for point in curve["points"]]
    return [axis for axis in LEARNING_AXES if any((point.get(axis[0]) or 0) > 0 for point in points)]


def has_curve(method: Record) -> bool:
    """Return whether a method has any learning curve of two points."""
    return any(len(curve["points"]) > 1 for curve in method.get("learning") or [])


def has_proxy(method: Record) -> bool:
    """Return whether an audit held the reward of a method against gold."""
    return any(entry.get("points") or entry.get("best_of_n") for entry in method.get("proxy") or [])


def learning_table(comparison: Record) -> Table | None:
    """Return the last point of every learning curve, None where there is none."""
    axes, titles, rows = learning_axes(comparison), titles_of(comparison), []
    for index, method in ordered(comparison):
        for place, curve in enumerate(method.get("learning") or []):
            if not curve["points"]:
                continue
            at = f"/methods/{index}/learning/{place}"
            last = f"{at}/points/{len(curve['points']) - 1}"
            rows.append(
                (
                    words(titles[method["name"]]),
                    number(comparison, f"{at}/seed", str),
                    words(curve["points"][-1].get("what")),
                    number(comparison, f"{last}/value", decimal),
                    number(comparison, f"{last}/step", count),
                    *(number(comparison, f"{last}/{key}", form) for key, _, form in axes),
                )
            )
    if not axes or not rows:
        return None
    heads = columns("method", "#seed", "measured on", "#value", "#step", *(f"#{title}" for _, title, _ in axes))
    return Table("learning", "The last point of each learning curve.", heads, tuple(rows))


def levels_of(comparison: Record) -> dict[str, list[Record]]:
    """Return the points of the curve over budgets by method, in the page's order, each list by amount and then by seed."""
    rows = sorted(comparison.get("levels") or [], key=lambda row: (row["amount"], row["seed"]))
    by_name = {method["name"]: [row for row in rows if row["method"] == method["name"]] for _, method in ordered(comparison)}
    return {name: held for name, held in by_name.items() if held}


def level_form(kind: str) -> Form:
    """Return how an amount of a kind of budget is written on the page, in the unit of the JSON."""
    return count if kind == "labels" else amount


def levels_table(comparison: Record) -> Table | None:
    """Return every run at every amount of a budget; None where there is one amount, or none."""
    if not comparison.get("levels"):
        return None
    titles, scale = titles_of(comparison), scale_of(comparison)
    places = {id(row): place for place, row in enumerate(comparison["levels"])}
    kind = comparison["design"]["budget"]["kind"]
    form = level_form(kind)
    rows = [
        (
            words(titles[name]),
            number(comparison, f"/levels/{places[id(row)]}/amount", form),
            number(comparison, f"/levels/{places[id(row)]}/seed", str),
            number(comparison, f"/levels/{places[id(row)]}/used", form),
            number(comparison, f"/levels/{places[id(row)]}/value", scale.plain),
        )
        for name, held in levels_of(comparison).items()
        for row in held
    ]
    unit = f", {scale.level_unit}" if scale.level_unit else ""
    heads = columns("method", f"#budget, {kind}", "#seed", f"#used, {kind}", f"#{comparison['design']['metric']}{unit}")
    return Table("levels", "Each run at each amount of the budget.", heads, tuple(rows))


def proxy_table(comparison: Record) -> Table | None:
    """Return the last point of training of each audit: the reward that was optimised, and what gold says of it."""
    titles, rows = titles_of(comparison), []
    for index, method in ordered(comparison):
        for place, entry in enumerate(method.get("proxy") or []):
            for key, says in (("points", "training, last point"), ("best_of_n", "best of n, largest n")):
                if not entry.get(key):
                    continue
                at = f"/methods/{index}/proxy/{place}"
                last = f"{at}/{key}/{len(entry[key]) - 1}"
                rows.append(
                    (
                        words(titles[method["name"]]),
                        number(comparison, f"{at}/seed", str),
                        words(says),
                        *(number(comparison, f"{last}/{name}", decimal) for name in ("n", "sqrt_kl", "proxy", "gold")),
                    )
                )
    if not rows:
        return None
    heads = columns("method", "#seed", "policy", "#n", "#√KL, √nats", "#proxy", "#gold")
    return Table("proxy", "How far the reward that was optimised and the gold score went.", heads, tuple(rows))
