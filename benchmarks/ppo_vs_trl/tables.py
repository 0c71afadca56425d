"""What was measured, as tables on the terminal and in docs/ppo-vs-trl.md."""

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.table import Table as RichTable

SIDES = {"ours": "posttrain", "theirs": "TRL 1.12.0"}


@dataclass(frozen=True)
class Table:
    """Head and rows of text."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def rich(self) -> RichTable:
        table = RichTable(*self.head, title=self.title)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [self.head, tuple("---" for _ in self.head), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def tables(found: dict[str, Any]) -> dict[str, Table]:
    """Return the tables by the names of their places in the page."""
    made = {"speed": _speed(found), "phases": _phases(found), "costs": _costs(found), "fixed": _fixed(found)}
    return made | ({"race": _race(found)} if "race" in found else {})


def _rate(run: dict[str, Any], episodes: int) -> float:
    """Episodes a second after the first update, which is not counted."""
    return episodes * (len(run["times"]) - 1) / (run["times"][-1] - run["times"][0])


def _spread(values: list[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _speed(found: dict[str, Any]) -> Table:
    rows = []
    for size, one in found["speed"].items():
        rates = {side: [_rate(run, one["given"]["episodes"]) for run in runs] for side, runs in one["runs"].items()}
        ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates["theirs"], strict=True)]
        peaks = {side: [run["peak_mb"] for run in runs] for side, runs in one["runs"].items()}
        grown = {side: [run["peak_mb"] - run["loaded_mb"] for run in runs] for side, runs in one["runs"].items()}
        for side, name in SIDES.items():
            rows.append(
                (
                    f"{size} ({one['given']['parameters'] / 1e6:.2f} M, {one['given']['episodes']} episodes)",
                    name,
                    _spread(rates[side], 1),
                    _spread(ratios, 2) if side == "ours" else "",
                    f"{median(peaks[side]):.0f}",
                    f"{median(grown[side]):.0f}",
                )
            )
    title = f"episodes a second, median (least–most) of {len(ratios)} repetitions in turn; {found['threads']} threads"
    return Table(title, ("size", "trainer", "episodes/s", "ratio", "peak MB", "of it above loading"), rows)


def _phases(found: dict[str, Any]) -> Table:
    names = ("sample", "score", "values", "reference", "forward", "rest")
    rows = []
    for size, one in found["speed"].items():
        for side, name in SIDES.items():
            each: dict[str, list[float]] = {phase: [] for phase in names}
            for run in one["runs"][side]:
                updates = len(run["times"]) - 1
                parts = {phase: run["phases"].get(phase, 0.0) / updates for phase in names}
                parts["rest"] = (run["times"][-1] - run["times"][0]) / updates - sum(parts.values())
                for phase in names:
                    each[phase].append(parts[phase])
            rows.append((size, name, *(f"{median(each[phase]):.3f}" for phase in names)))
    head = ("size", "trainer", "sample", "score", "values", "reference", "forward in training", "backward, optimiser, rest")
    return Table("seconds an update", head, rows)


def _costs(found: dict[str, Any]) -> Table:
    rows = []
    for size, one in found["costs"].items():
        spent, alone = one["spent"], one["alone"]
        rows.append(
            (
                size,
                f"{one['wall']:.2f}",
                f"{one['gflop']:.0f}",
                *(f"{spent[kind] / one['in_torch']:.0%} ({alone[kind]:.2f} s alone)" for kind in ("linear", "attention")),
                f"{one['quotient']:.2f}",
                ", ".join(f"{name.removeprefix('aten::')} {share:.0%}" for name, share in one["others"][:6]),
            )
        )
    head = ("size", "an update, s", "GFLOP", "linear layers", "attention", "update / products alone", "largest others")
    return Table("where an update of ours goes: shares of the time inside torch", head, rows)


def _fixed(found: dict[str, Any]) -> Table:
    rows = [
        (
            row["what"],
            str(row["figures"]),
            f"{row['difference']:.1e}",
            "" if row["plain_difference"] is None else f"{row['plain_difference']:.1e}",
        )
        for row in found["fixed"]
    ]
    return Table("on TRL's own tensors", ("what", "figures", "largest difference", "without the adjustment"), rows)


def _race(found: dict[str, Any]) -> Table:
    last = min(run["times"][-1] for runs in found["race"].values() for run in runs)
    rows = []
    for share in (0.25, 0.5, 0.75, 1.0):
        # updates that ended in the quarter of the time before: one alone would be one batch's chance
        scores = {
            side: [_mean_within(run, after=(share - 0.25) * last, until=share * last) for run in runs]
            for side, runs in found["race"].items()
        }
        counts = {
            side: mean(sum(time <= share * last for time in run["times"]) for run in runs) for side, runs in found["race"].items()
        }
        rows.append(
            (
                f"{(share - 0.25) * last:.0f}–{share * last:.0f} s",
                *(f"{mean(scores[side]):.2f} ({', '.join(f'{score:.2f}' for score in scores[side])})" for side in SIDES),
                *(f"{counts[side]:.0f}" for side in SIDES),
            )
        )
    head = (
        "wall time",
        *(f"{name}: mean score (each seed)" for name in SIDES.values()),
        *(f"{name}: updates" for name in SIDES.values()),
    )
    return Table("the reward after equal wall time, default size", head, rows)


def _mean_within(run: dict[str, Any], *, after: float, until: float) -> float:
    """Return the mean score of the updates that ended in that time; of the last one before where none did."""
    ended = [(time, score) for time, score in zip(run["times"], run["scores"], strict=True) if time <= until] or [
        (run["times"][0], run["scores"][0])
    ]
    return mean([score for time, score in ended if time > after] or [ended[-1][1]])


def rewrite_page(path: Path, made: dict[str, Table]) -> None:
    """Put the tables between their marks in the page; what was not measured this time stays."""
    text = path.read_text(encoding="utf-8")
    for name, table in made.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        body = f"*{table.title[0].upper()}{table.title[1:]}.*\n\n{table.markdown()}\n"
        text = place.sub(lambda mark, body=body: mark[1] + body + mark[2], text)
    path.write_text(text, encoding="utf-8")
