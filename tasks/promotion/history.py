"""The history of a model's champions: every move that was asked for, the newest first, as its run in MLflow tells it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.printable import printable
from posttrain.promotion.moves import CHALLENGER, CHAMPION, PREVIOUS, Aliases
from tasks.tracking.killed_runs import PROMOTION
from tasks.tracking.ledger import Ledger
from tasks.tracking.store import plain_errors

A_PAGE = 200
HEAD = ("when", "move", "champion", "outcome", "decided", "by", "why")


@dataclass(frozen=True)
class PastMove:
    """One move.

    Attributes:
        run_id: in MLflow; its artifact `move.json` has the whole record.
        time: ISO 8601, when it was decided.
        kind: `promote` or `rollback`.
        leaves: version that was champion; "" for none.
        version: that became champion, or was to.
        outcome: `done`, `completed`, `undone`, `overtaken`, `refused`, or `under way` for one without an outcome.
        decision: by which rule, or by hand.
        actor: who.
        why: as it was said.
        says: what more there is to know of the outcome, and of the gate's figures; "" for nothing.
    """

    run_id: str
    time: str
    kind: str
    leaves: str
    version: str
    outcome: str
    decision: str
    actor: str
    why: str
    says: str


@plain_errors
def history_of(ledger: Ledger, name: str) -> list[PastMove]:
    """Return all moves of a registered model, the newest first."""
    condition = f"tags.`posttrain.kind` = '{PROMOTION}' and tags.`posttrain.model` = '{name}'"
    order = ["attributes.start_time DESC"]
    found: list[Any] = []
    token = None
    while True:
        page = ledger.client.search_runs([ledger.experiment_id], condition, order_by=order, max_results=A_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return [_past_move(run) for run in found]


def _past_move(run: Any) -> PastMove:
    tags = {name.removeprefix("posttrain."): value for name, value in run.data.tags.items() if name.startswith("posttrain.")}
    says = [text for text in (tags.get("outcome_why", ""), tags.get("gate", "")) if text]
    return PastMove(
        run_id=run.info.run_id,
        time=tags.get("time", ""),
        kind=tags.get("move", ""),
        leaves=tags.get("from", ""),
        version=tags.get("to", ""),
        outcome=tags.get("outcome", "under way"),
        decision=tags.get("decision", ""),
        actor=tags.get("actor", ""),
        why=tags.get("why", ""),
        says="; ".join(dict.fromkeys(says)),
    )


def history_lines(name: str, now: Aliases, moves: Sequence[PastMove]) -> list[str]:
    """Return the history as lines for a terminal: who is who now, then a table, with what more there is to know below its row."""
    names = ", ".join(f"{alias} {now[alias] or '–'}" for alias in (CHAMPION, PREVIOUS, CHALLENGER))
    if not moves:
        return [f"{name}: {names}", "no version was ever promoted"]
    rows = [
        (
            one.time[:16].replace("T", " "),
            one.kind,
            f"{one.leaves or '–'} → {one.version}",
            one.outcome,
            one.decision,
            one.actor,
            " ".join(one.why.split()),
        )
        for one in moves
    ]
    widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD) - 1)]
    lines = [f"{name}: {names}", "", _line(HEAD, widths)]
    for one, row in zip(moves, rows, strict=True):
        lines.append(_line(row, widths))
        if one.says:
            lines.append(f"  {' '.join(one.says.split())}")
    return [
        printable(line) for line in [*lines, "", "times are UTC; each row is a run in MLflow, whose move.json has all figures"]
    ]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    *fixed, last = cells
    return "  ".join([*(f"{cell:<{width}}" for cell, width in zip(fixed, widths, strict=True)), last]).rstrip()
