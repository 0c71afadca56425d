"""What retention must know before it lets anything go: pipelines and versions from MLflow, and what names them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.keeping.manifest import SETTINGS, named_versions
from posttrain.keeping.retention import Holders, Pipeline, Stage, Version
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import MODEL_TAG, STAGE_KEY_TAG, WEIGHTS_TAG
from tasks.tracking.store import plain_errors
from tasks.workspace.paths import Paths

A_PAGE = 1_000
PIPELINE_ID = re.compile(r"\b\d{8}-\d{6}-\w+-\w{4}\b")
"""How reports name pipelines."""


@dataclass(frozen=True)
class Run:
    """A run of MLflow, as far as its removal goes.

    Attributes:
        run_id: in MLflow.
        artifacts: where its files lie.
    """

    run_id: str
    artifacts: str


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model.

    Attributes:
        key: name and number.
        model_id: of the logged model that has its files; "" for one that somebody else registered.
        maker: run of the pipeline that made it.
        is_ours: a pipeline registered it, so it can be told from the weights.
    """

    key: Version
    model_id: str
    maker: str
    is_ours: bool


@dataclass(frozen=True)
class Facts:
    """All that is known.

    Attributes:
        pipelines: every one that the ledger has.
        runs: of each pipeline, by its parent run: those of its stages, and the parent last.
        versions: of every registered model.
        holders: what keeps them.
    """

    pipelines: tuple[Pipeline, ...]
    runs: Mapping[str, tuple[Run, ...]]
    versions: tuple[RegisteredVersion, ...]
    holders: Holders


@plain_errors
def collect_facts(ledger: Ledger, schedules: Iterable[str]) -> Facts:
    """Return what the ledger, the reports and the schedules say.

    Args:
        ledger: where.
        schedules: the parameters of each schedule, as text.
    """
    parents = list(_runs_of_kind(ledger, "pipeline"))
    children: dict[str, list[Any]] = {run.info.run_id: [] for run in parents}
    for run in _runs_of_kind(ledger, "stage"):
        children.setdefault(run.data.tags.get("mlflow.parentRunId", ""), []).append(run)
    versions = tuple(_versions(ledger))
    by_stage: dict[str, list[Version]] = {}
    for version, key in versions:
        by_stage.setdefault(key, []).append(version.key)
    registered = tuple(version for version, _ in versions)
    pipelines = tuple(_pipeline(run, children[run.info.run_id], by_stage) for run in parents)
    runs = {
        run.info.run_id: tuple(Run(one.info.run_id, one.info.artifact_uri) for one in (*children[run.info.run_id], run))
        for run in parents
    }
    return Facts(pipelines, runs, registered, _holders(ledger, pipelines, registered, schedules))


def _runs_of_kind(ledger: Ledger, kind: str) -> Iterator[Any]:
    """Yield the runs of a kind, of every experiment: all of them share the stages that lie here."""
    experiments = [one.experiment_id for one in ledger.client.search_experiments()]
    token = None
    while True:
        condition = f"tags.`posttrain.kind` = '{kind}'"
        page = ledger.client.search_runs(experiments, condition, max_results=A_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _versions(ledger: Ledger) -> Iterator[tuple[RegisteredVersion, str]]:
    """Yield each version, and the key of the stage that made its weights ("" where that is unknown)."""
    token = None
    while True:
        page = ledger.client.search_model_versions(max_results=A_PAGE, page_token=token)
        for one in page:
            source = str(one.source or "")
            version = RegisteredVersion(
                key=(str(one.name), str(one.version)),
                model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else "",
                maker=str(one.run_id or ""),
                is_ours=WEIGHTS_TAG in one.tags,
            )
            yield version, one.tags.get(STAGE_KEY_TAG, "")
        token = page.token
        if not token:
            return


def _time(milliseconds: int | None) -> float:
    return (milliseconds or 0) / 1000


def _pipeline(run: Any, children: Sequence[Any], by_stage: Mapping[str, Sequence[Version]]) -> Pipeline:
    tags = run.data.tags
    stages: set[Stage] = {
        (one.data.tags.get("posttrain.stage", ""), one.data.tags.get("posttrain.stage_key", "")) for one in children
    }
    made = {version for _, key in stages for version in by_stage.get(key, ())} if stages else set()
    return Pipeline(
        run_id=run.info.run_id,
        pipeline_id=tags.get("posttrain.pipeline_id", ""),
        started=_time(run.info.start_time),
        is_running=run.info.status in ("RUNNING", "SCHEDULED"),
        stages=frozenset(stages),
        versions=frozenset(made | named_versions([tags.get(MODEL_TAG, "")])),
        names=frozenset(named_versions(run.data.params.values())),
        comparison=tags.get("posttrain.comparison", ""),
    )


def _holders(
    ledger: Ledger, pipelines: Sequence[Pipeline], versions: Sequence[RegisteredVersion], schedules: Iterable[str]
) -> Holders:
    client, paths = ledger.client, ledger.paths
    names = sorted({version.key[0] for version in versions})
    aliased = {(name, str(number)) for name in names for number in client.get_registered_model(name).aliases.values()}
    pages = {"a comparison": _texts(paths.reports.glob("compare/*/comparison.json"))}
    pages["a report"] = _texts(paths.reports.rglob("latest.json"))
    # on a server's ledger other folders work too, and what their comparisons name we cannot see
    others = {} if ledger.is_local else {one.pipeline_id: "has no report here" for one in pipelines}
    others = {name: why for name, why in others.items() if not report_files(paths, name)}
    texts = [text for found in pages.values() for text in found]
    return Holders(
        aliased=aliased,
        named=named_versions([*texts, *_texts([paths.root / SETTINGS]), *schedules]),
        pipelines=others | {found: page for page, told in pages.items() for text in told for found in PIPELINE_ID.findall(text)},
        comparisons={folder.name for folder in paths.reports.glob("compare/*") if folder.is_dir()},
        makers={version.key: version.maker for version in versions},
    )


def _texts(files: Iterable[Path]) -> list[str]:
    found = []
    for file in files:
        with suppress(OSError):
            found.append(file.read_text(encoding="utf-8", errors="replace"))
    return found


def report_files(paths: Paths, pipeline_id: str) -> list[Path]:
    """Return the files of a pipeline's report, the JSON first: without it a report is known to be half of one."""
    found = sorted(paths.reports.glob(f"{pipeline_id}*")) if PIPELINE_ID.fullmatch(pipeline_id) else []
    return sorted(found, key=lambda file: file.suffix != ".json")
