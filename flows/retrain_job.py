"""A retraining under way: what stays from one try to the next, how it ended, and its record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from posttrain.promotion.gate import Decision
from posttrain.retraining.changes import Changes, Made
from posttrain.settings.config import Config
from tasks.data.dvc import DatasetVersion
from tasks.retraining.records import SCHEMA
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths

Say = Callable[[str], None]


@dataclass(frozen=True)
class Retrained:
    """How a retraining ended.

    Attributes:
        outcome: a new champion; the champion kept, with a challenger that the gate refused; or nothing that matters has changed.
        says: one sentence with figures.
        champion: version that serves now; "" for none.
        challenger: version that the pipeline arrived at; "" where none ran.
        pipeline_id: names its report; "" where none ran.
        decision: the gate's record, schema `posttrain.decision/1`; None where it was not asked.
    """

    outcome: Literal["promoted", "kept", "unchanged"]
    says: str
    champion: str = ""
    challenger: str = ""
    pipeline_id: str = ""
    decision: dict[str, Any] | None = None


@dataclass
class Job:
    """A retraining under way: what stays from one try to the next, and what its record is written from.

    Attributes:
        paths: of the repository.
        config: of the pipeline.
        say: prints one line for the user.
        cause: why it was started, in a few words: "by hand", "schedule nightly".
        is_forced: go through pipeline and gate although nothing has changed.
        command: that starts the same again.
        id: names the record.
        created: when it began.
        tries: how often it was tried so far.
        name: of the registered model.
        data: the dataset as it was found.
        now: what a model would be made of.
        champion: version that served when it began; None for none.
        changed: what is another since the champion.
        why: the same as a clause, or why it goes on although nothing is.
        fingerprint: of all that decides how it ends; "" where that is not known.
        ledger: once it is open.
        run_id: of the retraining in MLflow; "" before it has found something to do.
        report: of the pipeline.
        decision: of the gate.
        is_measured_anew: the champion was measured on the held-out questions of today's data.
    """

    paths: Paths
    config: Config
    say: Say
    cause: str
    is_forced: bool
    command: str
    id: str
    created: datetime
    tries: int = 0
    name: str = ""
    data: DatasetVersion | None = None
    now: Made | None = None
    champion: str | None = None
    changed: Changes = field(default_factory=Changes)
    why: str = ""
    fingerprint: str = ""
    ledger: Ledger | None = None
    run_id: str = ""
    report: Mapping[str, Any] | None = None
    decision: Decision | None = None
    is_measured_anew: bool = False


def record_of_job(job: Job, *, outcome: str, says: str, ended: Retrained | None, error: BaseException | None) -> dict[str, Any]:
    """Return the record of a retraining, schema `posttrain.retraining/1` (docs/retraining.md has every field)."""
    report = job.report or {}
    seconds = (datetime.now(UTC) - job.created).total_seconds()
    decision = ended.decision if ended else job.decision.as_record() if job.decision else None
    return {
        "schema": SCHEMA,
        "version": version("posttrain"),
        "id": job.id,
        "created": job.created.isoformat(timespec="seconds"),
        "seconds": round(max(seconds, 0.0), 1),
        "cause": job.cause,
        "command": job.command,
        "method": job.config.method,
        "seed": job.config.seed,
        "dataset": {"name": job.config.data.name, "md5": job.data.md5 if job.data else ""},
        "model": job.name,
        "outcome": outcome,
        "says": says,
        "changes": {**job.changed.as_record(), "says": job.why or job.changed.says},
        "champion": (ended.champion if ended else job.champion) or "",
        "champion_before": job.champion or "",
        "challenger": ended.challenger if ended else str(report.get("model", {}).get("version", "")),
        "pipeline_id": str(report.get("pipeline_id", "")),
        "is_champion_measured_anew": job.is_measured_anew,
        "tries": job.tries,
        "decision": decision,
        "error": {"kind": type(error).__name__, "says": says} if error else None,
        "fingerprint": job.fingerprint,
        "mlflow": {"run_id": job.run_id, "pipeline_run_id": str(report.get("mlflow", {}).get("run_id", ""))},
    }
