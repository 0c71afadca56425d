"""How labels stand, on a terminal of 80 columns."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from posttrain.labelling.ab import Picks, Thumbs
from posttrain.labelling.state import OPEN, BatchState, Labeller, LabelState
from posttrain.printable import counted, printable
from posttrain.statistics.intervals import Interval

WIDEST = 80
INTERVALS = "shares are in %, with their 95 % intervals in brackets"
NONE = "–"


def print_state(state: LabelState, *, console: Console | None = None) -> None:
    """Print batches, annotators, agreement and what is left."""
    console = console or Console(width=min(WIDEST, Console().width), highlight=False)
    console.print(Text(printable(headline(state)), style="bold"))
    if state.batches:
        console.print()
        heads = ["batch", "kind", "state", "done", "of", "skipped", "hours left"]
        console.print(_table(heads, [_batch_row(batch) for batch in state.batches], numbers=(3, 4, 5, 6)))
    if state.people:
        console.print()
        heads = ["annotator", "labels", "seconds", "own", "known", "dissent", "left"]
        console.print(_table(heads, [_person_row(name, one) for name, one in state.people.items()], numbers=(1, 2, 3, 4, 5, 6)))
        console.print(Text(INTERVALS, style="dim"))
    console.print()
    for line in remarks(state):
        console.print(Text(printable(line)))


def pick_lines(picks: Sequence[Picks]) -> list[str]:
    """Return how often one model was picked over another, a line every two models."""
    return [
        f"A/B: {one.one} won {percent(one.wins)} % against {one.other}, of {counted(one.picks, 'pick')} on "
        f"{counted(one.prompts, 'prompt')} ({one.equals:,} equal)"
        for one in picks
    ]


def thumb_lines(thumbs: Sequence[Thumbs]) -> list[str]:
    """Return how often each model's answers were liked, a line a model."""
    return [
        f"A/B: {one.model} has thumbs up on {percent(one.up)} % of its answers, of {counted(one.thumbs, 'thumb')} on "
        f"{counted(one.prompts, 'prompt')}"
        for one in thumbs
    ]


def headline(state: LabelState) -> str:
    """Return what there is, in a sentence."""
    if not state.labels and not state.batches:
        return f"{state.dataset} has no labels and no batch. Begin: make label DATA={state.dataset}"
    waiting = state.labels - state.in_dataset
    beside = f", {waiting:,} of them in batches that are not finished" if waiting else ""
    return f"{state.dataset}: {counted(state.labels, 'label')} by {counted(len(state.people), 'annotator')}{beside}"


def remarks(state: LabelState) -> list[str]:
    """Return what the tables do not hold, a line each."""
    lines = []
    if state.labels:
        lines += [f"by kind: {_counts(state.kinds)}", f"by selection: {_counts(state.selections)}"]
        mixed = [(name, one) for name, one in state.people.items() if len(one.selections) > 1]
        lines += [f"  {name}: {_counts(one.selections)}" for name, one in mixed if len(state.people) > 1]
    lines += _of_agreement(state)
    for name, one in state.people.items():
        if one.contradictions:
            pairs = counted(one.contradictions, "pair")
            lines.append(f"{name} labelled {pairs} both ways")
        if one.cycles:
            lines.append(f"{name}'s choices go in a circle in {counted(one.cycles, 'prompt')}")
    if (agreement := state.agreement) and agreement.cycles:
        names = ", ".join(name for name, _ in agreement.cycle_examples)
        lines.append(f"the labels of all go in a circle in {counted(agreement.cycles, 'prompt')}: {names}")
    return [*lines, *_of_left(state), *pick_lines(state.picks), *thumb_lines(state.thumbs)]


def _of_agreement(state: LabelState) -> list[str]:
    agreement = state.agreement
    if agreement is None:
        return []
    if agreement.agreement is None:
        return ["agreement: not known, for no pair was labelled by two annotators"]
    bounds = agreement.alpha_bounds
    told = "not defined" if agreement.alpha is None else f"{agreement.alpha:.2f}"
    if agreement.alpha is not None and bounds:
        told += f" [{bounds.low:.2f}–{bounds.high:.2f}]"
    shared = counted(agreement.shared_pairs, "pair")
    equal = f"equal {100 * agreement.equal_share:.0f} % of the labels"
    return [
        f"agreement: {percent(agreement.agreement)} % on {shared} that two or more labelled; Krippendorff's α {told}; {equal}"
    ]


def _of_left(state: LabelState) -> list[str]:
    if not any(batch.state == OPEN for batch in state.batches):
        return []
    waiting = [f"not begun yet: {', '.join(state.waiting)}"] if state.waiting else []
    return [*waiting, _work_left(state)]


def _work_left(state: LabelState) -> str:
    if not state.left:
        return f"left: nothing. Finish the batch: make labels DATA={state.dataset} FINISH=1"
    answers = counted(state.left, "answer")
    if state.hours_left is None:
        return f"left: {answers}; nobody has answered yet, so nothing says how long they take"
    return f"left: {answers}, about {hours(state.hours_left)} of one person (an estimate, from the median time of an answer)"


def _batch_row(batch: BatchState) -> list[str]:
    progress = batch.progress
    left = NONE if not batch.left or progress.hours_left is None else f"~{hours(progress.hours_left, unit=False)}"
    return [batch.name, batch.kind, batch.state, f"{progress.done:,}", f"{progress.size:,}", f"{progress.skipped:,}", left]


def _person_row(name: str, one: Labeller) -> list[str]:
    seconds = NONE if one.seconds is None else f"{one.seconds:.1f}"
    return [name, f"{one.labels:,}", seconds, percent(one.own), percent(one.right), percent(one.dissent), f"{one.left:,}"]


def percent(interval: Interval | None) -> str:
    """Return a share and its interval in %, without the sign."""
    if interval is None:
        return NONE
    return f"{100 * interval.estimate:.0f} [{100 * interval.low:.0f}–{100 * interval.high:.0f}]"


def hours(number: float, *, unit: bool = True) -> str:
    """Return hours as one says them."""
    told = f"{number:.1f}" if number < 10 else f"{number:,.0f}"
    return f"{told} hours" if unit else told


def _counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in of.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for place, name in enumerate(head):
        table.add_column(Text(name), justify="right" if place in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
