"""What the figures of a comparison show, in words with numbers: for readers who hear the page, and for the Markdown."""

from collections.abc import Callable, Mapping
from typing import Any

from posttrain.comparison.curves import has_curve, has_proxy, level_form, levels_of
from posttrain.comparison.fronts import cost_axes, pareto_front, priced
from posttrain.comparison.measures import YARDSTICKS, yardstick_sizes
from posttrain.comparison.numbers import bounds, decimal, scale_of, share
from posttrain.comparison.verdicts import LOOKS, gains_of, ordered, titles_of

Record = Mapping[str, Any]


def confidence(comparison: Record) -> str:
    """Return the confidence of the intervals: "95 %"."""
    return f"{comparison['design']['confidence'] * 100:g} %"


def forest_says(comparison: Record) -> str:
    """Return the forest in words."""
    scale, titles, gains = scale_of(comparison), titles_of(comparison), gains_of(comparison)
    reference = titles[comparison["design"]["reference"]]
    said = []
    for _, method in ordered(comparison):
        if method["name"] in gains:
            pair = gains[method["name"]][1]
            said.append(f"{titles[method['name']]} {scale.gain(pair)}, {LOOKS[pair['verdict']].says}")
    unit = f" in {scale.gain_unit}" if scale.gain_unit else ""
    return (
        f"Forest plot: paired gain over {reference}{unit}, with the {confidence(comparison)} interval, "
        "from the highest to the lowest. "
        f"{'; '.join(said)}."
    )


def costs_says(comparison: Record) -> str:
    """Return the Pareto front of each cost in words."""
    scale, titles = scale_of(comparison), titles_of(comparison)
    said = []
    for key, title, form in cost_axes(comparison):
        front = pareto_front(priced(comparison, key), higher_is_better=comparison["design"]["higher_is_better"])
        steps = ", ".join(f"{titles[one.name]} ({form(one.cost)}; {scale.plain(one.value)})" for one in front)
        said.append(f"Against {title}, no other method beats {steps}.")
    unit = f" in {scale.level_unit}" if scale.level_unit else ""
    return f"Scatter plots: mean {comparison['design']['metric'].replace('_', ' ')}{unit} against cost. {' '.join(said)}"


def learning_says(comparison: Record) -> str:
    """Return where each learning curve starts and ends."""
    titles, said = titles_of(comparison), []
    for _, method in ordered(comparison):
        if has_curve(method):
            ends = ", ".join(
                f"{decimal(curve['points'][0]['value'])} to {decimal(curve['points'][-1]['value'])} (seed {curve['seed']})"
                for curve in method["learning"]
                if curve["points"]
                and curve["points"][0].get("value") is not None
                and curve["points"][-1].get("value") is not None
            )
            said.append(f"{titles[method['name']]} from {ends}" if ends else f"{titles[method['name']]} without values")
    return f"Line charts: learning curves, a row a method, a line a seed. {'; '.join(said)}."


def levels_says(comparison: Record) -> str:
    """Return the mean of each method at each amount of the budget."""
    scale, titles, kind = scale_of(comparison), titles_of(comparison), comparison["design"]["budget"]["kind"]
    form, said = level_form(kind), []
    for name, rows in levels_of(comparison).items():
        steps = []
        for given in dict.fromkeys(row["amount"] for row in rows):
            values = [row["value"] for row in rows if row["amount"] == given]
            steps.append(f"{scale.plain(sum(values) / len(values))} at {form(given)}")
        said.append(f"{titles[name]} {', '.join(steps)}")
    unit = f" in {scale.level_unit}" if scale.level_unit else ""
    metric = comparison["design"]["metric"].replace("_", " ")
    return f"Line charts: mean {metric}{unit} at each budget of {kind}, a panel a method. {'; '.join(said)}."


def groups_says(comparison: Record) -> str:
    """Return the gain of each method in each group of questions."""
    scale, titles = scale_of(comparison), titles_of(comparison)
    groups = (comparison.get("groups") or {}).get("groups") or []
    said = []
    for group in groups:
        gains = [
            f"{titles.get(name, name)} {scale.gain(entry)}{_told(entry)}"
            for name, entry in group["methods"].items()
            if entry and entry.get("estimate") is not None
        ]
        said.append(f"{group['name']}: {', '.join(gains) or 'nothing'}")
    reference = titles[comparison["design"]["reference"]]
    return f"Dot plots: gain over {reference} by group of questions. {'; '.join(said)}."


def _told(entry: Record) -> str:
    verdict = entry.get("verdict")
    return f" ({LOOKS[verdict].says})" if verdict else ""


def yardsticks_says(comparison: Record) -> str:
    """Return each yardstick at its largest k."""
    titles, said = titles_of(comparison), []
    for _, method in ordered(comparison):
        held = []
        for name, says in YARDSTICKS:
            values = (method.get("yardsticks") or {}).get(name) or {}
            sizes = [size for size in yardstick_sizes(comparison, name) if values.get(size)]
            if sizes:
                held.append(f"{says}{sizes[-1]} {share(values[sizes[-1]])}")
        if held:
            said.append(f"{titles[method['name']]}: {', '.join(held)}")
    return f"Line charts: share of questions answered right with k samples, a panel a method. {'; '.join(said)}."


def proxy_says(comparison: Record) -> str:
    """Return where proxy and gold start and end on each audited seed."""
    titles, said = titles_of(comparison), []
    for _, method in ordered(comparison):
        if not has_proxy(method):
            continue
        ends = []
        for entry in method["proxy"]:
            points = entry.get("points") or entry.get("best_of_n")
            if points:
                first, last = points[0], points[-1]
                moved = ", ".join(
                    f"{key} {decimal(first[key])} to {decimal(last[key])}"
                    for key in ("proxy", "gold")
                    if first.get(key) is not None and last.get(key) is not None
                )
                ends.append(f"seed {entry['seed']} to √KL {decimal(last['sqrt_kl'])}: {moved}")
        said.append(f"{titles[method['name']]} ({'; '.join(ends)})")
    return f"Line charts: the reward that was optimised (proxy) and the gold score against √KL from the start. {'; '.join(said)}."


def level_says(comparison: Record) -> str:
    """Return the level of the reference: "SFT reaches 62.1 [60.1, 64.0] %"."""
    scale = scale_of(comparison)
    for _, method in ordered(comparison):
        if method["name"] == comparison["design"]["reference"] and method.get("mean"):
            mean = method["mean"]
            text = f"{scale.plain(mean['estimate'])} {bounds(mean, scale.plain)}".rstrip()
            return f"{titles_of(comparison)[method['name']]} itself reaches {text} {scale.level_unit}".rstrip() + "."
    return ""


SAYS: dict[str, Callable[[Record], str]] = {
    "forest": forest_says,
    "costs": costs_says,
    "levels": levels_says,
    "learning": learning_says,
    "groups": groups_says,
    "yardsticks": yardsticks_says,
    "proxy": proxy_says,
}
"""By name of the figure."""
