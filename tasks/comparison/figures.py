"""The figures of a comparison, taken from the store where one of the same numbers was drawn before.

A comparison that is repeated draws what it drew: only its ids and its times are others, and no figure shows those.
"""

import json
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from posttrain.comparison.markdown import printable_all
from tasks.pages.look import Figure
from tasks.workspace.artifacts import Log, Outcome, make
from tasks.workspace.keys import Inputs, stage_key
from tasks.workspace.paths import Paths

STAGE = "figures"
COMPUTE = "tasks.comparison.drawing:draw"
DRAWN = "figures.json"
OF_ONE_RUN = ("id", "created", "seconds", "command", "machine", "git_commit", "version", "mlflow", "answers")
"""Fields of the record that differ when a comparison is repeated, and the answers, which no figure shows."""
DRAWN_BY = ("altair", "vl-convert-python")


def figures_of(paths: Paths, comparison: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures that a comparison has data for, by name, and draw them where they are not in the store.

    Args:
        paths: of the repository.
        comparison: of schema posttrain.comparison/1.

    Raises:
        StorageError: the disk refused.
        ValueError: the comparison holds a number that JSON has not, such as nan.
    """
    shown = printable_all(without_ids(comparison))
    text = json.dumps(shown, sort_keys=True, allow_nan=False)
    digests = {"comparison": sha256(text.encode()).hexdigest(), **{name: version(name) for name in DRAWN_BY}}
    inputs = Inputs(settings={}, digests=digests, arguments={"comparison": shown})
    key = stage_key(STAGE, inputs, compute=COMPUTE)
    artifact, _ = make(paths, STAGE, key, partial(_draw, inputs=inputs), settings=inputs.settings, inputs=inputs.digests)
    kept = json.loads((artifact.path / DRAWN).read_text(encoding="utf-8"))
    return {name: Figure(**figure) for name, figure in kept.items()}


def _draw(out: Path, log: Log, *, inputs: Inputs) -> Outcome:
    module, _, function = COMPUTE.partition(":")
    outcome: Outcome = getattr(import_module(module), function)(out, log, **inputs.arguments)
    return outcome


def without_ids(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return what figures are drawn from: the record without ids, times and links of one run of it."""
    methods = [{name: value for name, value in one.items() if name != "runs"} for one in comparison["methods"]]
    return {name: value for name, value in comparison.items() if name not in OF_ONE_RUN} | {"methods": methods}
