"""The page docs/profiles.md, made of the table in posttrain/settings/profiles.py, so that the two cannot differ."""

from collections.abc import Iterable, Iterator
from operator import attrgetter

from posttrain.settings.config import Config
from posttrain.settings.profiles import LEARNING, SIZES, SMALL_MODEL, TINY_MODEL, Number, Row

PREAMBLE = """\
# Profiles: defaults that fit the model

Made of the table in `posttrain/settings/profiles.py` by `posttrain/settings/profiles_page.py`; change the table, not this page.

The defaults of [settings](settings.md) were chosen for the tiny base of 0.15 M weights. A larger model gets the numbers below in
their place. A value is looked up in four places, the last one that has it wins: the default, the profile, `params.yaml`, the
command line. `make settings METHOD=dpo SET="model.base=smollm2"` lists what a method reads, its values, where each comes from,
and why the profile has it. A run with a profile says in one line which one, and so do its report and its run in MLflow (the tag
`posttrain.profile`).

The profile follows from the weights of the base, which are counted in the headers of its files and not loaded; an embedding that
is the output layer too counts once. `tiny` is for at most {tiny:.0f} M weights, and for the base that is made here: it is the
defaults. `small` goes to {small:.0f} B, `large` beyond. `model.profile=small` names it instead. A base that cannot be counted
(a hub id without a network) is refused before anything runs, until `model.profile` names the profile.

Where a cell is empty the default stands. Each number has its source below its table; none is measured here unless it says so.
"""
LEARNS = """
## How a model learns

By size, and by what is trained: all weights, or LoRA adapters (`model.lora_rank` above 0).
"""
ASKED = """
## How much is asked of a run

By size, and by the machine. On a CPU, sampling and training are slow: these sizes are meant to let a run on the default world end
within 40 minutes with SmolLM2-135M and `evaluate.max_questions=100` (decision 30), and its intervals are wider for it.
A GPU has the defaults where a cell is empty. On a CPU with instructions for bfloat16
(AVX-512 BF16, AMX) `model.dtype` is `bfloat16`.
"""


def profiles_page() -> str:
    """Return the page as Markdown: two tables, a row a setting, and below each the sources."""
    text = PREAMBLE.format(tiny=TINY_MODEL / 1e6, small=SMALL_MODEL / 1e9)
    learns = _table(LEARNING, ("small, full", "small, LoRA", "large, full", "large, LoRA"))
    asked = _table(SIZES, ("small, CPU", "small, GPU", "large, CPU", "large, GPU"))
    return "\n".join([text.rstrip("\n"), LEARNS.rstrip("\n"), "", *learns, ASKED.rstrip("\n"), "", *asked]) + "\n"


def _table(rows: Iterable[Row], heads: tuple[str, str, str, str]) -> Iterator[str]:
    rows = list(rows)
    yield f"| setting | tiny (default) | {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        cells = (_value(attrgetter(row.setting)(Config())), *(_value(cell.value) if cell else "" for cell in row.cells))
        yield f"| `{row.setting}` | {' | '.join(cells)} |"
    yield ""
    yield "Sources:"
    yield ""
    for row in rows:
        yield f"- `{row.setting}`: {_sources(row)}."


def _sources(row: Row) -> str:
    """Return the sources of a row's cells, those with their value where there are several."""
    cells: dict[Number, None] = dict.fromkeys(cell for cell in row.cells if cell)
    if len({cell.source for cell in cells}) == 1:
        return next(iter(cells)).source
    return "; ".join(f"{_value(cell.value)}: {cell.source}" for cell in cells)


def _value(value: float | int | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
