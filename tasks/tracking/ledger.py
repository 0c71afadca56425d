"""The ledger: runs, metrics, tables and lineage in MLflow.

One parent run a pipeline and one child run a stage, cached or not, so every pipeline shows the same complete tree. Without
`tracking.uri` the ledger lies below `mlflow/store/` (tasks/tracking/store.py).

mlflow is imported inside functions: it costs 1.2 s, and `make help` needs none of it.
"""

import getpass
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from posttrain.errors import RequestError
from posttrain.settings.config import Config
from posttrain.settings.evaluation import TrackingSettings
from tasks.tracking.parameters import method_of, parameters_from_stage, parameters_of_request, parameters_of_stage
from tasks.tracking.run_notes import description, ended, finished
from tasks.tracking.server import UI_PORT, running_port
from tasks.tracking.stage_files import curves_in, small_files
from tasks.tracking.stage_notes import stage_sentence
from tasks.tracking.store import artifacts_folder, follow_a_move, make_sure_of, opening, plain_errors, require_server, store_uri
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

if TYPE_CHECKING:
    from mlflow import MlflowClient

Item = TypeVar("Item")

METRICS_A_BATCH = 1_000  # MLflow refuses more in one call
NAMES_A_BATCH = 100  # likewise for parameters and tags
SECONDS_BETWEEN_FLUSHES = 2.0


class Ledger:
    """The MLflow experiment of this repository; `open` is the way in.

    Attributes:
        client: for what has no method here.
        experiment_id: of the experiment `tracking.experiment`.
        uri: of the tracking store and registry.
        paths: where the repository lies.
        is_local: the store is our SQLite file, so model folders can be linked and read in place.
    """

    def __init__(self, client: "MlflowClient", *, experiment_id: str, uri: str, paths: Paths) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.uri = uri
        self.paths = paths
        self.is_local = uri.startswith("sqlite:")

    @classmethod
    @plain_errors
    def open(cls, paths: Paths, tracking: TrackingSettings) -> Self:
        """Return the ledger, made or moved to where it lies now if need be; safe when several processes open it at once.

        Raises:
            RequestError: no server answers at `tracking.uri`, or the experiment was deleted.
            StorageError: the store cannot be written.
        """
        from tasks.tracking.client import SharedClient

        if tracking.uri and not tracking.uri.startswith("sqlite:"):
            require_server(tracking.uri)
            client = SharedClient(tracking_uri=tracking.uri, registry_uri=tracking.uri)
            return cls(client, experiment_id=_experiment(client, tracking, None), uri=tracking.uri, paths=paths)
        uri = tracking.uri or store_uri(paths)
        with opening(paths.ledger):
            database, artifacts = paths.ledger / "mlflow.db", artifacts_folder(paths)
            if not tracking.uri:
                make_sure_of(database)
            client = SharedClient(tracking_uri=uri, registry_uri=uri)
            if not tracking.uri:
                follow_a_move(database, artifacts=artifacts)
            experiment_id = _experiment(client, tracking, str(artifacts))
        return cls(client, experiment_id=experiment_id, uri=uri, paths=paths)

    @plain_errors
    def start_pipeline(
        self,
        config: Config,
        *,
        dataset: str,
        data_md5: str,
        files_md5: Mapping[str, str],
        git_commit: str,
        flow_run_id: str,
        pipeline_id: str,
        command: str = "",
        marks: Mapping[str, str] | None = None,
    ) -> str:
        """Open the parent run of a pipeline and return its id.

        Its parameters are what the request decides; each stage that starts adds the settings that it reads
        (tasks/tracking/parameters.py), so a run lists no setting that nothing of it read, and a failed one has those so far.

        Args:
            config: of the pipeline.
            dataset: name below `data/`.
            data_md5: DVC's md5 of the dataset; becomes the digest of the run's dataset input.
            files_md5: DVC's md5 of each file that training reads.
            git_commit: of the working tree.
            flow_run_id: Prefect's.
            pipeline_id: names the report too.
            command: that runs this pipeline again.
            marks: further tags: of which comparison it is, or that it is a trial (tasks/tracking/comparison.py).
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tags = {
            "posttrain.kind": "pipeline",
            "posttrain.method": config.method,
            "posttrain.stage": "pipeline",
            "posttrain.pipeline_id": pipeline_id,
            "posttrain.seed": str(config.seed),
            "posttrain.dataset": dataset,
            "posttrain.profile": config.profile.title,
            "posttrain.data_md5": data_md5,
            "posttrain.stage_key": "",
            "posttrain.cached": "false",
            "posttrain.git_commit": git_commit,
            "posttrain.command": command,
            "prefect.flow_run_id": flow_run_id,
            "mlflow.source.name": f"flows pipeline method={config.method}",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": git_commit,
            "mlflow.note.content": description(config, dataset=dataset, data_md5=data_md5),
            **(marks or {}),
        }
        run_id = self._create_run(f"{config.method} {dataset} seed {config.seed}", tags)
        source = Dataset(
            name=dataset,
            digest=data_md5[:36],
            source_type="local",
            source=json.dumps({"uri": f"data/{dataset}"}),
            profile=json.dumps({"files": len(files_md5)}),
        )
        md5s = {"mlflow.data.context": "training", "dvc.md5": data_md5}
        md5s |= {f"dvc.md5.{name}": md5 for name, md5 in files_md5.items()}
        self.client.log_inputs(run_id, [DatasetInput(source, [InputTag(name, value) for name, value in md5s.items()])])
        self._log(run_id, params=parameters_of_request(config))
        return run_id

    @plain_errors
    def start_stage(
        self, parent: str, stage: str, *, key: str, settings: Mapping[str, Any], is_cached: bool = False
    ) -> "StageRun":
        """Open a child run of the pipeline `parent` (a run id); `settings` are those in its key, flat, by dotted name.

        They become its parameters, and those of the pipeline's run.
        """
        known = self.client.get_run(parent).data
        of_parent = known.tags
        tags = {name: value for name, value in of_parent.items() if name.startswith(("posttrain.", "prefect."))}
        tags |= {
            "mlflow.parentRunId": parent,
            "mlflow.source.name": f"flows stage {stage}",
            "posttrain.kind": "stage",
            "posttrain.stage": stage,
            "posttrain.stage_key": key,
            "posttrain.cached": str(is_cached).lower(),
        }
        run_id = self._create_run(f"{stage} (cached)" if is_cached else stage, tags)
        parameters = parameters_of_stage(settings, method_of(of_parent))
        self._log(run_id, params=parameters)
        # MLflow refuses a parameter that changes, and stages of one pipeline read the same settings
        new = {name: value for name, value in parameters_from_stage(parameters).items() if name not in known.params}
        self._log(parent, params=new)
        return StageRun(self, run_id, is_cached=is_cached)

    def log_cached_stage(self, parent: str, artifact: Path) -> str:
        """Replay a finished artifact into a child run marked as cached; returns the run's id."""
        facts = json.loads((artifact / "stage.json").read_text())
        run = self.start_stage(parent, facts["stage"], key=facts["key"], settings=facts["settings"], is_cached=True)
        run.finish(artifact)
        return run.run_id

    @plain_errors
    def log_table(self, run_id: str, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Log rows with equal keys as the table `name` ("samples.json"), which the UI draws and compares across runs.

        Raises:
            ValueError: if there is no row, or the rows have different keys.
        """
        if not rows or any(row.keys() != rows[0].keys() for row in rows):
            raise ValueError(f"table {name} needs at least one row, and the same columns in each")
        # MlflowClient.log_table goes through pandas, whose deprecation it trips over; this is the file and the tag it writes
        self.client.log_dict(
            run_id, {"columns": list(rows[0]), "data": [[row[column] for column in rows[0]] for row in rows]}, name
        )
        tables = json.loads(self.client.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
        self.client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([*tables, {"path": name, "type": "table"}]))

    @plain_errors
    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, model_id: str | None = None) -> None:
        """Log final values on a run, and on a logged model too where `model_id` names one."""
        self._log(run_id, metrics=[(name, value, 0) for name, value in metrics.items()], model_id=model_id)

    @plain_errors
    def log_file(self, run_id: str, file: Path, *, folder: str | None = None) -> None:
        """Log a file (a page, a picture, a report) as an artifact, in `folder` of the run."""
        self.client.log_artifact(run_id, str(file), folder)

    @plain_errors
    def finish_pipeline(
        self, run_id: str, *, metrics: Mapping[str, float | None], tags: Mapping[str, str] | None = None, verdict: str = ""
    ) -> None:
        """Log the pipeline's metrics and close its run. None is undefined and left out, and so is what the run holds already.

        Args:
            run_id: of the parent.
            metrics: by the names of docs: `eval/accuracy`, `cost/labels`, …
            tags: what is known only now, such as `posttrain.stage_key` of the last stage or `posttrain.cached`.
            verdict: what came out; the run's description begins with it.
        """
        run = self.client.get_run(run_id).data
        new = {name: value for name, value in metrics.items() if value is not None and run.metrics.get(name) != value}
        pipeline_id = run.tags.get("posttrain.pipeline_id", "")
        note = run.tags.get("mlflow.note.content", "")
        if (self.paths.reports / f"{pipeline_id}.md").is_file():
            note = finished(note, pipeline_id)
        self._log(
            run_id,
            metrics=[(name, value, 0) for name, value in new.items()],
            tags={**(tags or {}), "mlflow.note.content": f"{verdict}\n\n{note}" if verdict else note},
        )
        self.client.set_terminated(run_id, "FINISHED")

    @plain_errors
    def fail_pipeline(self, run_id: str, error: str, *, status: str = "FAILED") -> None:
        """Close the pipeline's run, and any child still open, as FAILED (or KILLED, when a person interrupted it).

        Its page begins with the error and the command that goes on.
        """
        for child in self.running(f"tags.`mlflow.parentRunId` = '{run_id}'"):
            self.client.set_terminated(child.info.run_id, "KILLED")
        tags = self.client.get_run(run_id).data.tags
        how, command = status.capitalize(), tags.get("posttrain.command", "")
        note = ended(tags.get("mlflow.note.content", ""), how=how, why=error, command=command)
        self._log(run_id, tags={"posttrain.error": error[:5000], "mlflow.note.content": note})
        self.client.set_terminated(run_id, status)

    def start_run(self, name: str, *, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> str:
        """Open a run of another kind than pipeline and stage, and return its id."""
        run_id = self._create_run(name, tags)
        self._log(run_id, params=parameters)
        return run_id

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self._log(run_id, tags=tags)

    def running(self, condition: str) -> list[Any]:
        """Return the runs that are marked as RUNNING and fulfil a condition of MLflow's search."""
        return list(self.client.search_runs([self.experiment_id], f"attributes.status = 'RUNNING' and {condition}"))

    def site(self, port: int | None = None) -> str:
        """Return where MLflow's page is: the server, or `make ui` at a port (None: the one that runs, else the usual one)."""
        if not self.is_local:
            return self.uri.rstrip("/")
        return f"http://127.0.0.1:{port or running_port(self.paths) or UI_PORT}"

    @contextmanager
    def as_default_store(self) -> Iterator[None]:
        """Make this ledger MLflow's default for a moment, for the calls that ignore the client they are made on."""
        import mlflow
        from mlflow.tracking._tracking_service import utils

        before = utils._tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before[0])  # type: ignore[arg-type]
            if before[1] is not None:
                os.environ["MLFLOW_TRACKING_URI"] = before[1]

    def _create_run(self, name: str, tags: Mapping[str, str]) -> str:
        with suppress(KeyError, OSError):  # a container's user may have no name
            tags = {**tags, "mlflow.user": getpass.getuser()}
        process = Process.current()
        owner = {"posttrain.process": process.name, "posttrain.host": process.host}
        run = self.client.create_run(self.experiment_id, tags={**tags, **owner}, run_name=name)
        return str(run.info.run_id)

    def _log(
        self,
        run_id: str,
        *,
        metrics: Sequence[tuple[str, float, int]] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        model_id: str | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        for chunk in _chunks(list(metrics), METRICS_A_BATCH):
            points = [Metric(name, float(value), now, step, model_id=model_id) for name, value, step in chunk]
            self.client.log_batch(run_id, metrics=points)
        for names in _chunks(list((params or {}).items()), NAMES_A_BATCH):
            self.client.log_batch(run_id, params=[Param(name, str(value)) for name, value in names])
        for names in _chunks(list((tags or {}).items()), NAMES_A_BATCH):
            self.client.log_batch(run_id, tags=[RunTag(name, value) for name, value in names])


class StageRun:
    """The open child run of one stage; takes curves while the stage trains, and what it left behind when it is done."""

    def __init__(self, ledger: Ledger, run_id: str, *, is_cached: bool = False) -> None:
        self.run_id = run_id
        self._ledger = ledger
        self._is_cached = is_cached
        self._waiting: list[tuple[str, float, int]] = []
        self._flushed = time.monotonic()
        self._has_curves = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step; they are written together, every two seconds or thousand values."""
        self._waiting += [(name, value, step) for name, value in metrics.items()]
        self._has_curves = True
        if len(self._waiting) >= METRICS_A_BATCH or time.monotonic() - self._flushed >= SECONDS_BETWEEN_FLUSHES:
            self.flush()

    @plain_errors
    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        self._ledger._log(self.run_id, metrics=waiting)
        self._flushed = time.monotonic()

    @plain_errors
    def finish(self, artifact: Path) -> None:
        """Log a finished artifact's metrics, costs, curves (unless they came in by `log`) and small files; close the run.

        Its description is its result in a sentence.
        """
        facts = json.loads((artifact / "stage.json").read_text())
        metrics = {**facts.get("metrics", {}), **{f"cost/{name}": value for name, value in facts.get("costs", {}).items()}}
        metrics["cost/seconds"] = facts["seconds"]
        points = [(name, value, 0) for name, value in metrics.items() if value is not None]
        if not self._has_curves:
            points += curves_in(artifact / "curves.jsonl")
        self._waiting += points
        self.flush()
        for file in small_files(artifact):
            folder = file.parent.relative_to(artifact)
            self._ledger.log_file(self.run_id, file, folder=None if folder == Path() else str(folder))
        sentence = stage_sentence(facts, is_cached=self._is_cached)
        self._ledger._log(self.run_id, tags={"mlflow.note.content": sentence})
        self._ledger.client.set_terminated(self.run_id, "FINISHED")

    @plain_errors
    def fail(self, message: str, *, status: str = "FAILED") -> None:
        """Keep the curves so far, say why, and close the run as FAILED (or KILLED)."""
        self.flush()
        note = ended("", how=status.capitalize(), why=message, command="")
        self._ledger._log(self.run_id, tags={"posttrain.error": message[:5000], "mlflow.note.content": note})
        self._ledger.client.set_terminated(self.run_id, status)


def _experiment(client: "MlflowClient", tracking: TrackingSettings, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    name = tracking.experiment
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage == "deleted":
        raise RequestError(f"tracking.experiment {name} was deleted in MLflow. Restore it there, or set another name")
    return str(found.experiment_id)


def _chunks(items: Sequence[Item], size: int) -> Iterable[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
