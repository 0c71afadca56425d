"""What methods reached, used and saw, as tables have it."""

from collections.abc import Iterator, Mapping
from typing import Any

from posttrain.comparison.cells import Cell, Table, columns, found, number, words
from posttrain.comparison.numbers import NOTHING, amount, count, decimal, minutes, percent, power, scale_of
from posttrain.comparison.verdicts import gain_cell, ordered, titles_of, verdict_cell

Record = Mapping[str, Any]

COSTS: tuple[tuple[str, str, Any], ...] = (
    ("train_seconds", "minutes of training", minutes),
    ("evaluate_seconds", "minutes of evaluation", minutes),
    ("trained_tokens", "tokens trained", amount),
    ("generated_tokens", "tokens generated", amount),
    ("critic_tokens", "critic's tokens", amount),
    ("forward_tokens", "tokens read only", amount),
    ("flops", "FLOPs", power),
    ("labels", "labels", count),
    ("peak_rss_mb", "peak memory, MB", count),
)
"""Key in `costs`, head of its column, how it is written."""
BEHAVIOUR: tuple[tuple[str, str, Any], ...] = (
    ("response_tokens", "tokens a response", decimal),
    ("finished", "responses that end, %", percent),
    ("kl", "KL from its start, nats", decimal),
    ("win_rate", "win rate against the reference, %", percent),
)
SAW: tuple[tuple[str, str], ...] = (
    ("demonstrations", "demonstrations"),
    ("questions", "questions"),
    ("gold_answers", "right answers"),
    ("labels", "labels"),
)
YARDSTICKS = (("pass", "pass@"), ("majority", "majority of "), ("best_of", "best of "))


def level_head(comparison: Record, name: str = "") -> str:
    """Return the head of a column of levels: "accuracy, %"."""
    unit = scale_of(comparison).level_unit
    return f"{name or comparison['design']['metric'].replace('_', ' ')}{f', {unit}' if unit else ''}"


def results_table(comparison: Record) -> Table:
    """Return the practitioners' table: what each method needs, reaches and costs, and when to use it."""
    scale, titles = scale_of(comparison), titles_of(comparison)
    reference = titles[comparison["design"]["reference"]]
    unit = f", {scale.gain_unit}" if scale.gain_unit else ""
    heads = [
        ("method", lambda at, one: words(titles[one["name"]])),
        ("learns from", lambda at, one: words(_learns(one))),
        (f"#{level_head(comparison)}", lambda at, one: number(comparison, f"{at}/mean", scale.level)),
        (f"#gain over {reference}{unit}", lambda at, one: gain_cell(comparison, one, scale)),
        ("verdict", lambda at, one: verdict_cell(comparison, one)),
        ("#labels", lambda at, one: number(comparison, f"{at}/costs/labels", count)),
        ("#tokens trained", lambda at, one: number(comparison, f"{at}/costs/trained_tokens", amount)),
        ("#tokens generated", lambda at, one: number(comparison, f"{at}/costs/generated_tokens", amount)),
        ("#minutes", lambda at, one: number(comparison, f"{at}/costs/train_seconds", minutes)),
        ("when to use", lambda at, one: words(one.get("when_to_use"))),
    ]
    rows = [[make(f"/methods/{index}", one) for _, make in heads] for index, one in ordered(comparison)]
    return _without_empty(
        Table(
            "results",
            "The methods, from the highest gain to the lowest.",
            columns(*(title for title, _ in heads)),
            tuple(map(tuple, rows)),
            "Labels, tokens and minutes are what one seed used on average, with every stage that it needs."
            if any(one.get("costs") for one in comparison["methods"])
            else "",
        )
    )


def _learns(method: Record) -> str:
    simulated = method.get("simulated") or []
    said = str(method.get("learns_from") or "")
    return f"{said} (simulated: {', '.join(simulated)})" if simulated else said


def seeds_table(comparison: Record) -> Table:
    """Return the level of each method on each seed, greedy and, where there is one, sampled."""
    scale, titles = scale_of(comparison), titles_of(comparison)
    rows = []
    for index, method in ordered(comparison):
        key = "scores" if method.get("scores") else "accuracy"
        sampled = {entry["seed"]: place for place, entry in enumerate(method.get("sampled") or [])}
        for place, entry in enumerate(method.get(key) or []):
            at = f"/methods/{index}"
            rows.append(
                (
                    words(titles[method["name"]]),
                    number(comparison, f"{at}/{key}/{place}/seed", str),
                    number(comparison, f"{at}/{key}/{place}", scale.level),
                    number(comparison, f"{at}/sampled/{sampled[entry['seed']]}", scale.level)
                    if entry["seed"] in sampled
                    else Cell(NOTHING),
                )
            )
    heads = columns("method", "#seed", f"#{level_head(comparison)}", f"#{level_head(comparison, 'mean of samples')}")
    caption = "Level of each method on each seed; intervals cover the questions only."
    return _without_empty(Table("seeds", caption, heads, tuple(rows)))


def costs_table(comparison: Record) -> Table | None:
    """Return what a seed of each method used on average, None where nothing was measured."""
    fields = [(f"costs/{key}", head, form) for key, head, form in COSTS]
    return _by_method(comparison, "costs", "What one seed used on average.", fields)


def behaviour_table(comparison: Record) -> Table | None:
    """Return how each model responds: length, whether it ends, how far it went from its start, how often it wins."""
    return _by_method(comparison, "behaviour", "How the models respond.", list(BEHAVIOUR))


def budget_table(comparison: Record) -> Table | None:
    """Return what was used of an equal budget, and what tuning chose."""
    scale = scale_of(comparison)
    table = _by_method(
        comparison,
        "budget",
        "Budget and tuning.",
        [
            ("budget_used/amount", "budget used", amount),
            ("budget_used/share", "of the budget, %", percent),
            ("tuned/trials", "trials", count),
            ("tuned/development", level_head(comparison, "on the development split"), scale.level),
        ],
    )
    if table is None:
        return None
    settings = [found(one, "/tuned/chosen") or {} for _, one in ordered(comparison)]
    chosen = [", ".join(f"{key}={value}" for key, value in each.items()) for each in settings]
    rows = tuple((*row, words(text, kind="code")) for row, text in zip(table.rows, chosen, strict=True))
    return _without_empty(Table(table.name, table.caption, (*table.columns, *columns("settings chosen")), rows))


def saw_table(comparison: Record) -> Table | None:
    """Return what each method learned from, and who labelled it."""
    table = _by_method(comparison, "saw", "What one seed of each method saw.", [(f"saw/{key}", head, count) for key, head in SAW])
    if table is None:
        return None
    said = [
        (
            words(found(one, "/saw/labels_by")),
            words(found(one, "/saw/judge")),
            words(", ".join(one.get("simulated") or []) or "nothing"),
        )
        for _, one in ordered(comparison)
    ]
    rows = tuple((*row, *cells) for row, cells in zip(table.rows, said, strict=True))
    return _without_empty(Table(table.name, table.caption, (*table.columns, *columns("labels by", "judge", "simulated")), rows))


def yardsticks_table(comparison: Record) -> Table | None:
    """Return pass@k, majority and best of k of each method; one row costs the same at inference for all."""
    methods = [(index, one) for index, one in ordered(comparison) if one.get("yardsticks")]
    titles = titles_of(comparison)
    heads = [(name, key, says) for name, says in YARDSTICKS for key in yardstick_sizes(comparison, name)]
    if not methods or not heads:
        return None
    rows = tuple(
        (
            words(titles[one["name"]]),
            # yardsticks are shares, whatever the primary metric is
            *(number(comparison, f"/methods/{index}/yardsticks/{name}/{key}", percent) for name, key, _ in heads),
            words(one["yardsticks"].get("best_of_by")),
        )
        for index, one in methods
    )
    return _without_empty(
        Table(
            "yardsticks",
            "Share of questions answered right with k samples, in %. At one k, every method spends the same number of responses.",
            columns("method", *(f"#{says}{key}" for _, key, says in heads), "best by"),
            rows,
        )
    )


def yardstick_sizes(comparison: Record, name: str) -> list[str]:
    """Return every k that any method has a yardstick of, from the smallest."""
    sizes = {key for one in comparison["methods"] for key in ((one.get("yardsticks") or {}).get(name) or {})}
    return sorted(sizes, key=int)


def runs_table(comparison: Record) -> Table | None:
    """Return how each row is made again: command, commit, data and runs of each seed."""
    rows = tuple(_run_rows(comparison))
    if not rows:
        return None
    heads = columns("method", "#seed", "command", "commit", "data md5", "pipeline", "run", "model")
    return _without_empty(Table("runs", "How each row is made again.", heads, rows))


def _run_rows(comparison: Record) -> Iterator[tuple[Cell, ...]]:
    titles = titles_of(comparison)
    for index, method in ordered(comparison):
        for place, run in enumerate(method.get("runs") or []):
            yield (
                words(titles[method["name"]]),
                number(comparison, f"/methods/{index}/runs/{place}/seed", str),
                *(
                    words(run.get(key), kind="code")
                    for key in ("command", "git_commit", "data_md5", "pipeline_id", "run_id", "model_uri")
                ),
            )


def failed_table(comparison: Record) -> Table | None:
    """Return the runs that did not finish, why, and how to run them again; None where all did."""
    failed = comparison.get("failed") or []
    titles = titles_of(comparison)
    rows = tuple(
        (
            words(titles.get(one.get("method"), one.get("method"))),
            number(comparison, f"/failed/{place}/seed", str),
            words(one.get("error")),
            words(one.get("command"), kind="code"),
            words(one.get("run_id"), kind="code"),
        )
        for place, one in enumerate(failed)
    )
    if not rows:
        return None
    return _without_empty(Table("failed", "Runs that did not finish.", columns("method", "#seed", "why", "command", "run"), rows))


def _by_method(comparison: Record, name: str, caption: str, fields: list[tuple[str, str, Any]]) -> Table | None:
    """Return a row a method and a column a field, without the fields that no method has; None where none is left."""
    titles = titles_of(comparison)
    rows = tuple(
        (words(titles[one["name"]]), *(number(comparison, f"/methods/{index}/{path}", form) for path, _, form in fields))
        for index, one in ordered(comparison)
    )
    table = _without_empty(Table(name, caption, columns("method", *(f"#{head}" for _, head, _ in fields)), rows))
    return table if len(table.columns) > 1 else None


def _without_empty(table: Table) -> Table:
    """Return a table without the columns, but for the first, in which no row has anything."""
    kept = [place for place in range(len(table.columns)) if place == 0 or any(row[place].text != NOTHING for row in table.rows)]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return Table(table.name, table.caption, tuple(table.columns[place] for place in kept), rows, table.note)
