"""The sections of a comparison's page and Markdown, in order: what each shows, or why it is left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posttrain.comparison.alternatives import SAYS, confidence, level_says
from posttrain.comparison.cells import Table
from posttrain.comparison.curves import (
    has_curve,
    has_proxy,
    learning_axes,
    learning_table,
    level_form,
    levels_table,
    proxy_table,
)
from posttrain.comparison.fronts import cost_axes
from posttrain.comparison.measures import (
    behaviour_table,
    budget_table,
    costs_table,
    failed_table,
    results_table,
    runs_table,
    saw_table,
    seeds_table,
    yardsticks_table,
)
from posttrain.comparison.numbers import count, duration, scale_of
from posttrain.comparison.verdicts import families_table, gains_table, grid_table, groups_table, titles_of

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        name: its anchor.
        title: its heading.
        lead: paragraphs below the heading.
        figure: name of its figure, "" for none.
        says: the figure in words with numbers.
        tables: that stand open.
        numbers: tables that a page may fold: the figure's numbers, and what only a reviewer asks for.
        facts: pairs of a word and what it is.
        items: a list of sentences.
    """

    name: str
    title: str
    lead: tuple[str, ...] = ()
    figure: str = ""
    says: str = ""
    tables: tuple[Table, ...] = ()
    numbers: tuple[Table, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    items: tuple[str, ...] = ()


def sections_of(comparison: Record) -> tuple[list[Section], list[str]]:
    """Return the sections that have anything to show, in order, and a sentence for each that has not."""
    shown: list[Section] = []
    left_out: list[str] = []
    for made in (
        verdict_section(comparison),
        reading_section(comparison),
        Section(
            "methods",
            "What each method needs, reaches and costs",
            tables=(results_table(comparison),),
            numbers=(seeds_table(comparison),),
        ),
        _costs(comparison) or "Cost against quality is left out: no cost was measured.",
        _levels(comparison) or "The curve over budgets is left out: there are no several amounts.",
        _learning(comparison) or "Learning curves are left out: no run logged points of one.",
        _pairs(comparison) or "The grid of pairs is left out: two methods are the one pair that stands above.",
        _groups(comparison) or "Gains by group are left out: the questions have no groups.",
        _yardsticks(comparison) or "Yardsticks at inference are left out: there are no several samples of a question.",
        _proxy(comparison)
        or "Proxy against gold is left out: no method here was trained on a reward that gold was held against.",
        _answers(comparison) or "Answers side by side are left out: the results hold no texts.",
        _used(comparison) or "What each method saw and used is left out: the results do not say it.",
        _simulated(comparison),
        _failed(comparison) or "Failed runs: none.",
        _reproduce(comparison) or "How to reproduce the rows is left out: the results do not say how they were made.",
    ):
        if isinstance(made, Section):
            shown.append(made)
        else:
            left_out.append(made)
    notes = _notes(comparison, left_out)
    return [*shown, notes], left_out


def verdict_section(comparison: Record) -> Section:
    """Return the picture of the gains; the verdict itself is the page's first sentence."""
    others = [pair for pair in comparison.get("pairs") or [] if pair["family"] == "reference"]
    if not others:
        return Section("verdict", "The verdict")
    return Section(
        "verdict",
        "Gain over the reference",
        (level_says(comparison),),
        "forest",
        SAYS["forest"](comparison),
        numbers=(gains_table(comparison),),
    )


def reading_section(comparison: Record) -> Section:
    """Return how to read verdicts and intervals."""
    design, scale = comparison["design"], scale_of(comparison)
    reference = titles_of(comparison)[design["reference"]]
    better = "higher is better" if design["higher_is_better"] else "lower is better, and a gain is a fall"
    items = [
        f"The metric is {design['metric_title']}; {better}. Every method is compared with {reference}, the reference"
        f"{', on logs as they were given' if comparison['source'] == 'logs' else '; both were declared before anything ran'}.",
        f"Better or worse: p is below {1 - design['confidence']:.2g} after {str(design['correction']).title()}'s correction for "
        f"many comparisons. The interval that decides ({confidence(comparison)}) is more careful than the drawn one with a "
        "method whose seeds scatter more than the others'.",
        f"Equal: the difference lies within ±{scale.effect(design['margin'])}.",
        "Not told apart: neither of these. It does not mean equal: the table has the smallest effect that this design sees with "
        "80 % power.",
        "The seeds disagree: not told apart, and single seeds point in different directions.",
    ]
    if len(design["seeds"]) < 2:
        items.append("There is one seed, so every verdict speaks of these trained models, not of the methods that made them.")
    budget = design.get("budget") or {}
    facts = [
        ("questions", count(design["questions"])),
        ("seeds", ", ".join(map(str, design["seeds"]))),
        ("samples a question", count(design["samples"]) if design.get("samples") else ""),
        ("budget", _budget(budget)),
        ("trials of tuning a method", count(design["tune"]) if design.get("tune") else ""),
    ]
    return Section(
        "reading",
        "How to read it",
        (str(design["covers"]),) if design.get("covers") else (),
        facts=tuple((word, text) for word, text in facts if text),
        items=tuple(items),
    )


def _budget(budget: Record) -> str:
    kind, amount_ = budget.get("kind"), budget.get("amount")
    if not kind:
        return ""
    return "each method at its own defaults" if amount_ is None else f"{count(amount_)} {kind} for each method"


def _costs(comparison: Record) -> Section | None:
    if not cost_axes(comparison):
        return None
    lead = (
        "No other method beats one on the line in both cost and quality. The line compares means; "
        "an interval may still hold the order of two neighbours open."
    )
    return Section("costs", "Cost against quality", (lead,), "costs", SAYS["costs"](comparison))


def _levels(comparison: Record) -> Section | None:
    table = levels_table(comparison)
    if table is None:
        return None
    budget = comparison["design"]["budget"]
    largest = f"{level_form(budget['kind'])(budget['amount'])} {budget['kind']}"
    lead = (
        f"Every run was repeated at each amount of {budget['kind']}, and stands at what it really used. All verdicts are at the "
        f"largest amount, {largest}. A method that is not there at an amount "
        "cannot keep to it; the notes say why."
    )
    return Section("levels", "Quality at each budget", (lead,), "levels", SAYS["levels"](comparison), numbers=(table,))


def _learning(comparison: Record) -> Section | None:
    table = learning_table(comparison)
    if table is None or not learning_axes(comparison) or not any(map(has_curve, comparison["methods"])):
        return None
    whats = {
        point.get("what") for one in comparison["methods"] for curve in one.get("learning") or [] for point in curve["points"]
    }
    said = ", ".join(sorted(str(what) for what in whats if what))
    lead = f"A line is one seed; its value is that on {said}." if said else "A line is one seed."
    return Section("learning", "Learning curves", (lead,), "learning", SAYS["learning"](comparison), numbers=(table,))


def _pairs(comparison: Record) -> Section | None:
    grid, families = grid_table(comparison), families_table(comparison)
    if len(comparison["methods"]) < 3 or (grid is None and not families.rows):
        return None
    lead = "Every pair, corrected over all pairs, so a small difference needs more to be told than against the reference alone."
    return Section(
        "pairs",
        "Every pair",
        (lead,) if grid else (),
        tables=(grid,) if grid else (),
        numbers=(families,) if families.rows else (),
    )


def _groups(comparison: Record) -> Section | None:
    table = groups_table(comparison)
    if table is None or not table.rows:
        return None
    return Section("groups", "Gain by group of questions", (), "groups", SAYS["groups"](comparison), numbers=(table,))


def _yardsticks(comparison: Record) -> Section | None:
    table = yardsticks_table(comparison)
    if table is None:
        return None
    lead = (
        "What more samples of the same model buy: pass@k counts a question whose k samples hold a right answer "
        "(nobody tells which), majority takes the most frequent answer, best of k the one that a reward model scores highest."
    )
    return Section(
        "yardsticks", "The same models with more samples", (lead,), "yardsticks", SAYS["yardsticks"](comparison), numbers=(table,)
    )


def _proxy(comparison: Record) -> Section | None:
    table = proxy_table(comparison)
    if table is None or not any(map(has_proxy, comparison["methods"])):
        return None
    lead = "Where the proxy rises and gold does not follow, the model learns to please the reward: reward hacking."
    return Section("proxy", "Proxy against gold", (lead,), "proxy", SAYS["proxy"](comparison), numbers=(table,))


def _answers(comparison: Record) -> Section | None:
    if not comparison.get("answers"):
        return None
    return Section("answers", "Answers side by side", ("The questions where the methods differ most, so no fair sample of all.",))


def _used(comparison: Record) -> Section | None:
    tables = [make(comparison) for make in (saw_table, costs_table, budget_table, behaviour_table)]
    kept = tuple(table for table in tables if table is not None)
    return Section("used", "What each method saw and used", tables=kept) if kept else None


def _simulated(comparison: Record) -> Section | str:
    titles = titles_of(comparison)
    items = [
        f"{titles[one['name']]}: simulated {', '.join(one['simulated'])}."
        for one in comparison["methods"]
        if one.get("simulated")
    ]
    dataset = comparison.get("dataset") or {}
    if dataset.get("is_simulated"):
        items.insert(0, f"The dataset {dataset.get('name')} was made by a program; real data may order the methods otherwise.")
    return (
        Section("simulated", "What was simulated", items=tuple(items))
        if items
        else "Simulated: nothing, as far as the results say."
    )


def _failed(comparison: Record) -> Section | None:
    table = failed_table(comparison)
    if table is None:
        return None
    lead = "The rest is compared. A pair of methods is compared on the seeds that both have."
    return Section("failed", "Failed runs", (lead,), tables=(table,))


def _reproduce(comparison: Record) -> Section | None:
    machine, dataset = comparison.get("machine") or {}, comparison.get("dataset") or {}
    files = dataset.get("files") or {}
    facts = [
        ("command", comparison.get("command")),
        ("commit", comparison.get("git_commit")),
        ("posttrain", comparison.get("version")),
        ("made", comparison.get("created")),
        ("took", duration(comparison["seconds"]) if comparison.get("seconds") is not None else None),
        ("dataset", " ".join(str(part) for part in (dataset.get("name"), dataset.get("md5")) if part)),
        *((f"file {role}", md5) for role, md5 in files.items()),
        *((str(key).replace("_", " "), value) for key, value in machine.items()),
    ]
    known = tuple((word, str(value)) for word, value in facts if value not in (None, ""))
    table = runs_table(comparison)
    if table is None and not known:
        return None
    return Section("reproduce", "How to reproduce it", tables=(table,) if table else (), facts=known)


def _notes(comparison: Record, left_out: list[str]) -> Section:
    warnings = [f"Warning: {one}" for one in comparison.get("warnings") or []]
    mlflow = comparison.get("mlflow") or {}
    facts = tuple((f"MLflow {key.replace('_', ' ')}", str(value)) for key, value in mlflow.items() if value)
    return Section("notes", "Notes and warnings", facts=facts, items=(*warnings, *(comparison.get("notes") or []), *left_out))
