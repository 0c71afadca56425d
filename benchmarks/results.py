"""What README.md states of the methods: kept in docs/results.json, written as tables and drawn by `benchmarks.pipeline`.

python -m benchmarks.results        writes README.md's section and docs/results.png from docs/results.json again
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.worlds import REPORTED
from posttrain.methods import METHODS

ROOT = Path(__file__).parents[1]
RESULTS, PICTURE, README = ROOT / "docs" / "results.json", ROOT / "docs" / "results.png", ROOT / "README.md"
REPORT = ROOT / "docs" / "report.png"
"""Picture of one pipeline's report."""
BEGIN, END = "<!-- results: made by benchmarks.pipeline -->\n", "<!-- end of results -->"
TITLES = {name: method.title for name, method in METHODS.items()}
"""In the order of the table: what README calls each method."""
KEPT = ("accuracy", "accuracy_sampled", "accuracy_gain", "accuracy_sampled_gain", "win_rate", "kl")
AUDITED = ("labels", "reward_model", "proxy")
"""Figures of models, and parts of the audit, that are kept."""
SHOWN = (REPORTED.seeds[0], "dpo")
"""The run whose report's picture README shows."""
DIGEST = "posttrain results sha256"
"""Name of the PNG's text that says which results it shows."""

Run = dict[str, Any]


def run_of(seed: int, method: str, report: Mapping[str, Any], *, seconds: float, loops: float, peak: float) -> Run:
    """Return what is kept of one pipeline."""
    return {
        "seed": seed,
        "method": method,
        "wall_seconds": round(seconds),
        "loop_seconds": round(loops),
        "peak_mb": round(peak),
        "models": {name: {figure: found.get(figure) for figure in KEPT} for name, found in report["models"].items()},
        "audit": {part: found for part, found in report.get("audit", {}).items() if part in AUDITED},
        "costs": {name.removeprefix("cost/"): value for name, value in report["metrics"].items() if name.startswith("cost/")},
    }


@contextmanager
def _locked() -> Iterator[None]:
    """Let one process at a time change the results: seeds may be measured side by side."""
    with Path(__file__).open() as lock:  # any file that is always there
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def keep(run: Run) -> None:
    """Put a run into docs/results.json, in the place of an earlier one of its seed and method."""
    with _locked():
        before = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if RESULTS.is_file() else []
        runs = [one for one in before if (one["seed"], one["method"]) != (run["seed"], run["method"])]
        order = list(TITLES)
        runs = sorted([*runs, run], key=lambda one: (one["seed"], order.index(one["method"])))
        told = {"world": REPORTED.seed, "seeds": list(REPORTED.seeds), "runs": runs}
        RESULTS.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_runs() -> list[Run]:
    """Return the runs of docs/results.json."""
    runs: list[Run] = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"]
    return runs


# --- README ---------------------------------------------------------------------------------------------------------------


def section(runs: Sequence[Run]) -> str:
    """Return README's section of results."""
    seeds = sorted({run["seed"] for run in runs})
    by = {(run["seed"], run["method"]): run for run in runs}
    lines = [
        f"Held-out questions answered right by greedy decoding, %, on the world of seed {REPORTED.seed}, from which no setting "
        "was chosen; in brackets the paired gain over the model that a method started from, in points, with its 95 % interval.",
        "",
        *_table(["", *(f"seed {seed}" for seed in seeds)], [_accuracies("base", seeds, by), *_method_rows(seeds, by)]),
        "",
        "An interval covers the choice of held-out questions and nothing else. Training noise comes on top: another seed, "
        "machine or number of threads trains another model. The spread between seeds shows some of it; one commit and one seed, "
        "on another machine or with another number of threads, moved SFT by 3 points, DPO by 2, RLHF by 7 and RLAIF by 9.",
        "",
        "What feedback was worth, %: right about which of two samples is better, where one is (gold is a program that knows the "
        "answers). Annotators are simulated. How good the judge is was set (`judge.practice_steps`, `judge.slip_share`), so that "
        "RLAIF is above or below RLHF here is no result.",
        "",
        *_table(["", *(f"seed {seed}" for seed in seeds)], _feedback_rows(seeds, by)),
        "",
        "What each took, mean over the seeds: SFT, sampling, labels and reward model where a method needs them, not the base. "
        "Every network counts: 6 FLOPs a weight and token learnt from, 2 a token read.",
        "",
        *_table(["", *(name.replace("_", " ") for name in SHOWN_COSTS)], _cost_rows(seeds, by)),
    ]
    return "\n".join(lines) + "\n"


def _method_rows(seeds: Sequence[int], by: Mapping[tuple[int, str], Run]) -> list[list[str]]:
    return [_accuracies(method, seeds, by) for method in TITLES if any((seed, method) in by for seed in seeds)]


def _accuracies(method: str, seeds: Sequence[int], by: Mapping[tuple[int, str], Run]) -> list[str]:
    cells = []
    for seed in seeds:
        run = by.get((seed, "sft" if method == "base" else method))
        cells.append("–" if run is None else _accuracy(run, final=method != "base"))
    return [TITLES.get(method, method), *cells]


def final_model(run: Run) -> dict[str, Any]:
    """Return the figures of the model that a run ended with."""
    models: dict[str, dict[str, Any]] = run["models"]
    return models[list(models)[-1]]


def _accuracy(run: Run, *, final: bool) -> str:
    if not final:
        return f"{100 * run['models']['base']['accuracy']['estimate']:.1f}"
    found = final_model(run)
    text = f"{100 * found['accuracy']['estimate']:.1f}"
    gain = {name: 100 * value for name, value in _gain(run).items()}
    return f"{text} ({gain['estimate']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}])"


def _gain(run: Run) -> dict[str, float]:
    """Return the paired gain over the model that a method started from; SFT's, over the base, is what the base lacks."""
    if run["method"] != "sft":
        found: dict[str, float] = final_model(run)["accuracy_gain"]
        return found
    lacking = run["models"]["base"]["accuracy_gain"]
    return {"estimate": -lacking["estimate"], "low": -lacking["high"], "high": -lacking["low"]}


SHOWN_COSTS = ("labels", "generated_tokens", "trained_tokens", "critic_tokens", "forward_tokens", "flops")
FEEDBACK = (
    ("simulated annotators' labels", "rlhf", "proxy", "labels_agreement_gold"),
    ("reward model of them", "rlhf", "reward_model", "accuracy_gold"),
    ("judge's labels", "rlaif", "labels", "accuracy"),
    ("reward model of them", "rlaif", "reward_model", "accuracy_gold"),
)


def _feedback_rows(seeds: Sequence[int], by: Mapping[tuple[int, str], Run]) -> list[list[str]]:
    rows = []
    for label, method, part, name in FEEDBACK:
        cells = []
        for seed in seeds:
            figures = (by[seed, method]["audit"].get(part) or {}) if (seed, method) in by else {}
            known = f"{name}_low" in figures
            cells.append(
                f"{100 * figures[name]:.1f} [{100 * figures[f'{name}_low']:.1f}–{100 * figures[f'{name}_high']:.1f}]"
                if known
                else "–"
            )
        rows.append([label, *cells])
    return rows


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < 1e9 else f"{value:.2e}"


def _cost_rows(seeds: Sequence[int], by: Mapping[tuple[int, str], Run]) -> list[list[str]]:
    rows = []
    for method, name in TITLES.items():
        runs = [by[seed, method] for seed in seeds if (seed, method) in by]
        if runs:
            rows.append([name, *(_count(mean(run["costs"][cost] for run in runs)) for cost in SHOWN_COSTS)])
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def write_readme(text: str) -> str:
    """Return README's text with the section put between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md has no section of results: the lines {BEGIN.strip()!r} and {END!r} must stand in it")
    return f"{before}{begin}\n{section(read_runs())}\n{end}{after}"


# --- picture --------------------------------------------------------------------------------------------------------------


def digest() -> str:
    """Return the digest of docs/results.json, which the picture carries."""
    return hashlib.sha256(RESULTS.read_bytes()).hexdigest()


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw every method's greedy accuracy, a dot a seed with its interval over questions, and a bar at the seeds' mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seeds = sorted({run["seed"] for run in runs})
    columns = {"base": [run for run in runs if run["method"] == "sft"]}
    columns |= {method: [run for run in runs if run["method"] == method] for method in TITLES}
    columns = {name: found for name, found in columns.items() if found}
    figure = Figure(figsize=(max(10.0, 1.1 * len(columns)), 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
    for place, (name, found) in enumerate(columns.items()):
        values = []
        for run in found:
            model = run["models"]["base"] if name == "base" else final_model(run)
            share = {end: 100 * value for end, value in model["accuracy"].items()}
            number = seeds.index(run["seed"])
            where = place + 0.18 * (number - (len(seeds) - 1) / 2)
            reach = [[share["estimate"] - share["low"]], [share["high"] - share["estimate"]]]
            style = {"fmt": "os^Dv"[number % 5], "color": colours[number % 5], "capsize": 3, "elinewidth": 1.2, "markersize": 6}
            axes.errorbar(where, share["estimate"], yerr=reach, label=f"seed {run['seed']}" if place == 0 else None, **style)
            values.append(share["estimate"])
        axes.hlines(mean(values), place - 0.36, place + 0.36, color="#333333", linewidth=1.4)
        axes.annotate(f"{mean(values):.1f}", (place + 0.37, mean(values)), fontsize=9, va="center")
    axes.set_xticks(range(len(columns)), [TITLES.get(name, name).replace(" ", "\n", 1) for name in columns], fontsize=10)
    axes.set_xlim(-0.6, len(columns) - 0.3)
    axes.set_ylim(0, 102)
    axes.set_ylabel("held-out questions right, greedy, %")
    axes.set_title(
        f"one dot a seed, with its 95 % interval over questions; bar: mean of the seeds (world.seed={REPORTED.seed})",
        fontsize=11,
    )
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", fontsize=10)
    figure.savefig(path, format="png", metadata={DIGEST: digest()})


def write() -> None:
    """Write README's section and the picture from docs/results.json."""
    runs = read_runs()
    draw(runs, PICTURE)
    README.write_text(write_readme(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
