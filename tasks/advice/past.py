"""What earlier runs on the same dataset and base took and found: times of stages, and verdicts of comparisons."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.workspace.paths import Paths

_BASE = re.compile(r"model\.base=([^\s\"']+)")


def earlier_stages(paths: Paths, *, dataset: str, base: str) -> dict[str, float]:
    """Return the seconds that each stage took the last time in a pipeline on this dataset and base, by its name."""
    found: dict[str, tuple[str, float]] = {}
    for report in _json_files(paths.reports.glob("*.json")):
        with suppress(KeyError, TypeError, AttributeError):
            if report["dataset"] != dataset:
                continue
            for stage in report["stages"]:
                settings = _settings(paths, stage["name"], stage["key"])
                # a stage without a network, such as `label`, is of any base
                if settings is not None and settings.get("model.base", base) == base:
                    when, seconds = str(report["created"]), float(stage["seconds"])
                    found[stage["name"]] = max(found.get(stage["name"], ("", 0.0)), (when, seconds))
    return {name: seconds for name, (_, seconds) in found.items()}


def earlier_costs(paths: Paths, *, dataset: str, base: str) -> dict[str, dict[str, float]]:
    """Return what the last pipeline of each method on this dataset and base cost, by name, as its report has it."""
    found: dict[str, tuple[str, dict[str, float]]] = {}
    for report in _json_files(paths.reports.glob("*.json")):
        with suppress(KeyError, TypeError, AttributeError):
            bases = [_settings(paths, stage["name"], stage["key"]) or {} for stage in report["stages"]]
            is_same = any(one.get("model.base") == base for one in bases)
            if report["dataset"] == dataset and is_same:
                costs = {
                    name.removeprefix("cost/"): float(value)
                    for name, value in report["metrics"].items()
                    if name.startswith("cost/") and value is not None
                }
                name, when = str(report["method"]), str(report["created"])
                if name not in found or found[name][0] < when:
                    found[name] = (when, costs)
    return {name: costs for name, (_, costs) in found.items()}


def comparisons(paths: Paths, *, dataset: str, base: str, data_md5: str) -> list[dict[str, Any]]:
    """Return what finished comparisons on this dataset and base found, the last one first: id, created, verdict, same_data.

    A comparison's base is what the commands of its runs name; a command that names none had that of `params.yaml`, which is taken
    for the same.
    """
    found = []
    for told in _json_files((paths.reports / "compare").glob("*/comparison.json")):
        with suppress(KeyError, TypeError, AttributeError):
            if not str(told["schema"]).startswith("posttrain.comparison/") or (told.get("dataset") or {}).get("name") != dataset:
                continue
            if _bases(told) <= {base}:
                found.append(
                    {
                        "id": str(told["id"]),
                        "created": str(told["created"]),
                        "verdict": str(told["verdict"]),
                        "same_data": told["dataset"].get("md5") == data_md5,
                    }
                )
    return sorted(found, key=lambda one: str(one["created"]), reverse=True)


def _bases(comparison: Mapping[str, Any]) -> set[str]:
    commands = [str(run.get("command", "")) for method in comparison.get("methods", []) for run in method.get("runs", [])]
    return {named[1] for command in (*commands, str(comparison.get("command", ""))) if (named := _BASE.search(command))}


def _settings(paths: Paths, stage: str, key: str) -> dict[str, Any] | None:
    file = paths.stages / stage / key / "stage.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        settings = json.loads(file.read_text(encoding="utf-8"))["settings"]
        return dict(settings)
    return None


def _json_files(files: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in files that are JSON; half a file of a killed run is passed over."""
    for file in sorted(files):
        if file.name == "latest.json":
            continue
        with suppress(OSError, ValueError):
            told = json.loads(Path(file).read_text(encoding="utf-8"))
            if isinstance(told, dict):
                yield told
