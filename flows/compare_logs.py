"""`make compare LOGS=…`: the statistics and the page of a comparison for what other tools measured; nothing is trained."""

import secrets
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.compare_request import Request
from posttrain.comparison.record import build_comparison
from posttrain.settings.config import Config
from tasks.comparison.figures import figures_of
from tasks.comparison.latest import write_comparison
from tasks.comparison.logs import read_logs
from tasks.comparison.page import write_page
from tasks.workspace.paths import Paths


def write_logs(paths: Paths, request: Request, config: Config) -> tuple[dict[str, Any], Path]:
    """Compare what other tools measured, and return the record and the page's path."""
    started = time.time()
    given = {one.partition("=")[0] for one in request.settings}
    settings = config.compare
    design, questions, methods, notes = read_logs(
        request.logs,
        reference=settings.reference if "compare.reference" in given else "",
        metric=settings.metric if "compare.metric" in given else "",
        margin=settings.margin,
    )
    comparison_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    record = build_comparison(
        design=design,
        questions=questions,
        methods=methods,
        facts={
            "id": comparison_id,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "source": "logs",
            "command": request.command,
            "version": version("posttrain"),
            "seconds": round(time.time() - started, 1),
            "notes": notes,
        },
        group_by="auto" if settings.groups == "none" else settings.groups,
    )
    if settings.groups == "none":
        record["groups"] = None
    figures = figures_of(paths, record)
    files = write_comparison(paths, comparison_id, lambda folder: write_page(record, figures, folder))
    return record, files["page"]
