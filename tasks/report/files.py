"""The report of a pipeline: as JSON, Markdown and a picture below `reports/`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.errors import StorageError
from posttrain.report.pipeline import has_audit_picture, render_markdown
from tasks.report.latest import write_files
from tasks.report.pictures import Curve, picture


def write_report(
    report: Mapping[str, Any],
    folder: Path,
    *,
    curves: Mapping[str, Curve] | None = None,
    audit_picture: Path | None = None,
) -> dict[str, Path]:
    """Write `<pipeline_id>.json`, `.md`, `.png` and `latest.json`; each file is the old one or the whole new one.

    Args:
        report: from `posttrain.report.pipeline.build_report`.
        folder: `reports/`, made if need be.
        curves: by stage, the lines of its curves.jsonl; those with a `loss`, or PPO's reward, are drawn.
        audit_picture: of the stage `audit`, which goes beside the page; needed where the report has proxy and gold.

    Returns:
        The path of each, by "json", "markdown", "picture", "latest" and, where there is one, "audit".

    Raises:
        StorageError: the disk refused; what was there before is still there.
        ValueError: the report names the picture of an audit, and there is none, or the other way round.
    """
    if has_audit_picture(report) != (audit_picture is not None):
        raise ValueError("a report whose audit has proxy and gold comes with their picture, and no other does")
    name = report["pipeline_id"]
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = {
        "picture": (folder / f"{name}.png", picture(report, curves=curves or {})),
        "markdown": (folder / f"{name}.md", render_markdown(report).encode()),
    }
    if audit_picture is not None:
        files["audit"] = (folder / f"{name}-audit.png", audit_picture.read_bytes())
    # in this order: a report whose JSON is there is whole (tasks/report/latest.py), and latest.json names whole ones only
    files |= {"json": (folder / f"{name}.json", text.encode()), "latest": (folder / "latest.json", text.encode())}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_files(dict(files.values()))
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}. Free the disk or its permissions, then run again: "
            "finished stages are reused"
        ) from error
    return {kind: path for kind, (path, _) in files.items()}
