"""A retraining on a real ledger, its pipeline stood in for by one that leaves what a pipeline leaves, in a moment."""

import json
import shutil
import urllib.error
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import retrain as subject
from flows import retrain_champion, retrain_steps
from flows.probe import Probed, ProbedStage
from flows.promotion import promote_version, roll_back
from flows.retrain import Retrained, check_request, command_of, patiently, retrain
from flows.retrain_job import Job
from posttrain.errors import ContractError, RequestError, StorageError
from posttrain.promotion.moves import CHAMPION, PREVIOUS
from posttrain.settings.config import Config, merge
from posttrain.settings.evaluation import TrackingSettings
from tasks.data.dvc import DatasetVersion
from tasks.promotion.evaluations import MEASURED_TAG, evaluation_of, evaluations, warnings_of
from tasks.promotion.history import history_of
from tasks.promotion.moves import read_aliases
from tasks.tracking.ledger import Ledger
from tasks.workspace.artifacts import Artifact
from tasks.workspace.keys import Contents
from tasks.workspace.paths import Paths
from tests.tasks.promotion.versions import NAME, answered, pipeline, stage

CONFIG = merge({}, ["retraining.wait=1", "retraining.retries=2"])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)


@dataclass
class World:
    """The data as they are now, and what the pipeline would make of them.

    Attributes:
        ledger: a real one.
        folder: for weights.
        weight: of the model that training gives; another one is another model.
        right: held-out questions that it answers right, of 40.
        prefix: of the held-out questions; another one is other questions.
        troubles: raised by the pipeline, one a run, before it leaves anything.
        runs: of the pipeline so far.
        said: lines for the user.
    """

    ledger: Ledger
    folder: Path
    weight: float = 1.0
    right: int = 30
    prefix: str = "q"
    troubles: list[Exception] = field(default_factory=list)
    runs: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def md5(self) -> str:
        return f"{self.prefix}{self.weight}".ljust(32, "0")

    @property
    def keys(self) -> dict[str, str]:
        key = f"{self.weight:.3f}".replace(".", "").rjust(64, "0")
        return {"evaluate-dpo": key, "evaluate-base": f"b{key[1:]}"}

    def data(self, paths: Paths, name: str) -> DatasetVersion:
        return DatasetVersion(name=name, folder=paths.data / name, md5=self.md5, files={"questions": self.md5})

    def probe(self, config: Config) -> Probed:
        settings = {"evaluate.max_new_tokens": 40}
        return Probed(tuple(ProbedStage(name, key, settings, None) for name, key in self.keys.items()))

    def pipeline(self, config: Config, root: Path, say: Any, command: str) -> dict[str, Any]:
        self.runs += 1
        if self.troubles:
            raise self.troubles.pop(0)
        rows = answered(self.right, prefix=self.prefix)
        model = pipeline(self.ledger, self.folder, self.weight, rows, data_md5=self.md5)
        run_id = self.ledger.client.search_runs(
            [self.ledger.experiment_id], "tags.`posttrain.kind` = 'pipeline'", order_by=["attributes.start_time DESC"]
        )[0].info.run_id
        return {
            "pipeline_id": f"p{self.runs}",
            "data_md5": self.md5,
            "stages": [{"name": name, "key": key} for name, key in self.keys.items()],
            "model": {"version": model.version},
            "mlflow": {"run_id": run_id},
        }

    def retrain(self, **how: Any) -> Retrained:
        return retrain(self.ledger.paths, CONFIG, self.said.append, **({"cause": "by hand"} | how))

    def aliases(self) -> tuple[str | None, str | None]:
        now = read_aliases(self.ledger, NAME)
        return now[CHAMPION], now[PREVIOUS]

    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.ledger.paths.reports / "retrain" / "latest.json").read_text()))

    def run(self) -> Any:
        """Return the newest run of a retraining."""
        how: dict[str, Any] = {"order_by": ["attributes.start_time DESC"], "max_results": 1}
        return self.ledger.client.search_runs([self.ledger.experiment_id], "tags.`posttrain.kind` = 'retraining'", **how)[0]


@pytest.fixture
def world(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    shutil.copytree(empty_store, tmp_path / "repo")
    made = World(Ledger.open(Paths(tmp_path / "repo"), TrackingSettings()), tmp_path)
    monkeypatch.setattr(retrain_steps, "bring_up_to_date", made.data)
    monkeypatch.setattr(retrain_steps, "Prober", lambda *_, **how: made)
    monkeypatch.setattr(retrain_steps, "pipeline", made.pipeline)
    monkeypatch.setattr(retrain_steps, "check", lambda config, paths: ["a note of the judge"])
    monkeypatch.setattr(retrain_steps, "print_report", lambda report: None)
    monkeypatch.setattr("flows.promotion.check_loads", lambda ledger, name, version, say: Path("there"))
    monkeypatch.setattr(subject.time, "sleep", lambda seconds: made.said.append(f"slept {seconds:.0f} s"))
    return made


def measured(world: World, monkeypatch: pytest.MonkeyPatch, *, right: int) -> list[str]:
    """Let a champion be measured as the stage does it, and return the versions that were."""
    done: list[str] = []

    def measure(job: Job, ledger: Ledger, version: str) -> None:
        done.append(version)
        ledger.tag(job.run_id, {MEASURED_TAG: f"models:/{job.name}/{version}"})
        rows = answered(right, prefix=world.prefix)
        stage(ledger, job.run_id, "evaluate-champion", f"c{len(done)}".rjust(64, "0"), rows)

    monkeypatch.setattr(retrain_champion, "measure", measure)
    return done


def test_the_first_is_promoted_and_the_next_finds_nothing_to_do(world: World) -> None:
    ended = world.retrain(cause="schedule nightly")
    assert (ended.outcome, ended.champion, ended.challenger, ended.pipeline_id) == ("promoted", "1", "1", "p1")
    assert ended.says.startswith("promoted: version 1 is promoted over the base: accuracy +50.0 points [")
    assert ended.says.endswith("; retrained since there is no champion yet")
    assert ended.decision and ended.decision["rule"] == "first: beats the base" and world.aliases() == ("1", None)
    assert "retraining posttrain-world, since there is no champion yet" in world.said and "a note of the judge" in world.said
    (move,) = history_of(world.ledger, NAME)
    assert move.why == "retraining (schedule nightly): since there is no champion yet"

    # the record, and the two runs that tell it
    record, run = world.record(), world.run()
    assert record["schema"] == "posttrain.retraining/1" and record["outcome"] == "promoted" and record["says"] == ended.says
    assert (record["champion_before"], record["champion"], record["tries"], record["error"]) == ("", "1", 1, None)
    assert (world.ledger.paths.reports / "retrain" / f"{record['id']}.json").is_file()
    assert (run.info.status, run.data.tags["posttrain.outcome"], run.data.tags["posttrain.cause"]) == (
        "FINISHED",
        "promoted",
        "schedule nightly",
    )
    assert run.data.metrics["retrain/gain"] == pytest.approx(0.5) and run.data.metrics["retrain/is_promoted"] == 1
    of_pipeline = world.ledger.client.get_run(record["mlflow"]["pipeline_run_id"]).data.tags
    assert of_pipeline["posttrain.retraining"] == record["id"] and of_pipeline["posttrain.outcome"] == "promoted"

    again = world.retrain()
    day = record["created"][:10]
    assert again == Retrained(
        "unchanged",
        f"unchanged: nothing that matters has changed since version 1 of {day}, the champion; nothing was trained",
        champion="1",
    )
    assert world.runs == 1 and world.record()["outcome"] == "unchanged" and world.record()["mlflow"]["run_id"] == ""
    assert len(list((world.ledger.paths.reports / "retrain").glob("2*.json"))) == 1 and world.run().info.run_id == run.info.run_id

    # asked for all the same, the pipeline arrives at the champion itself
    forced = world.retrain(is_forced=True)
    assert (forced.outcome, world.runs) == ("unchanged", 2)
    assert forced.says == (
        "unchanged: the pipeline arrived at version 1, the champion itself; it ran since it was asked for (FORCE=1), although "
        f"nothing that matters has changed since version 1 of {day}"
    )


def test_a_worse_one_is_kept_out_and_not_made_twice_until_a_person_decides(world: World) -> None:
    world.retrain()
    world.weight, world.right = 2.0, 12  # a poisoned dataset
    ended = world.retrain()
    assert (ended.outcome, ended.champion, ended.challenger, ended.pipeline_id) == ("kept", "1", "2", "p2")
    assert ended.says.startswith("kept: version 2 is not promoted over version 1: accuracy -45.0 points [")
    assert ended.says.endswith("; version 1 still serves") and world.aliases() == ("1", None)
    assert ended.decision and ended.decision["promoted"] is False
    assert "changed after version 1 of" in world.record()["changes"]["says"] and world.record()["changes"]["kinds"][0] == "data"
    assert [one.outcome for one in history_of(world.ledger, NAME)] == ["refused", "done"]

    # the same again would end the same: neither pipeline nor gate is asked, and the history has no second refusal
    again = world.retrain()
    assert again.outcome == "unchanged" and world.runs == 2 and len(history_of(world.ledger, NAME)) == 2
    assert again.says.startswith("unchanged: nothing that matters has changed since the retraining of 20")
    assert "after which version 2 is not promoted over version 1: accuracy -45.0 points" in again.says
    assert world.retrain(is_forced=True).outcome == "kept" and world.runs == 3

    # better data: promoted, and what a person takes back stays back
    world.weight, world.right = 3.0, 39
    assert world.retrain().outcome == "promoted" and world.aliases() == ("3", "1")
    roll_back(world.ledger.paths, CONFIG, print, why="it swears")
    assert world.aliases() == ("1", "3")
    back = world.retrain()
    assert (back.outcome, back.champion, back.challenger, back.decision) == ("kept", "1", "3", None)
    assert (
        back.says.startswith("kept: version 3 was taken back (20")
        and ": it swears), so it is not promoted by itself" in back.says
    )
    assert world.aliases() == ("1", "3") and world.retrain().outcome == "unchanged"


def test_the_champion_is_measured_on_the_new_questions_and_its_warnings_stay_those_of_its_own_data(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.retrain()
    first = world.record()["mlflow"]["pipeline_run_id"]
    done = measured(world, monkeypatch, right=20)
    world.weight, world.right, world.prefix = 2.0, 30, "new"
    ended = world.retrain()
    assert done == ["1"] and ended.outcome == "promoted" and world.record()["is_champion_measured_anew"] is True
    assert ended.says.startswith("promoted: version 2 is promoted over version 1: accuracy +25.0 points [")
    found = list(evaluations(world.ledger, NAME, "1"))
    assert [one.rows[0]["id"] for one in found] == ["new0", "q0"]
    assert (found[0].trained_in, found[0].method, found[1].trained_in) == (first, "dpo", "")
    asked: list[str] = []
    monkeypatch.setattr(
        "tasks.promotion.evaluations.stage_run", lambda ledger, parent, stage: asked.append(f"{stage} of {parent}")
    )
    assert warnings_of(world.ledger, found[0]) is None and asked == [f"validate of {first}"]
    monkeypatch.undo()

    # it is measured once
    assert evaluation_of(world.ledger, NAME, "1", like=evaluation_of(world.ledger, NAME, "2")).rows[0]["id"] == "new0"
    assert retrain_champion.are_alike(world.ledger, NAME, champion="1", challenger="2")


def test_a_stage_that_breaks_its_contract_leaves_the_champion_and_is_not_tried_again(world: World) -> None:
    world.retrain()
    world.weight = 2.0
    world.troubles = [ContractError("the reward model knows nothing.")]
    with pytest.raises(ContractError, match=r"^the reward model knows nothing\.$"):
        world.retrain()
    record, run = world.record(), world.run()
    assert (record["outcome"], record["error"]) == (
        "failed",
        {"kind": "ContractError", "says": "the reward model knows nothing."},
    )
    assert (run.info.status, run.data.tags["posttrain.error"]) == ("FAILED", "the reward model knows nothing.")
    assert world.aliases() == ("1", None) and world.runs == 2
    with pytest.raises(ContractError, match=r"the same, so it was not tried again\. To try all the same: FORCE=1"):
        world.retrain()
    assert world.runs == 2
    assert world.retrain(is_forced=True).challenger == "2" and world.runs == 3


def test_a_server_that_does_not_answer_is_waited_for(world: World) -> None:
    world.troubles = [StorageError("x"), StorageError("y")]
    for trouble in world.troubles:
        trouble.__cause__ = ConnectionRefusedError("nobody listens")
    assert world.retrain().outcome == "promoted" and world.runs == 3 and world.record()["tries"] == 3
    assert [line for line in world.said if line.startswith(("slept", "note: x", "note: y"))] == [
        "note: x. That may pass: try 2 of 3 begins in 1 s; finished stages are kept",
        "slept 1 s",
        "note: y. That may pass: try 3 of 3 begins in 2 s; finished stages are kept",
        "slept 2 s",
    ]
    assert world.run().info.status == "FINISHED", "one run, however many tries"


def test_a_fault_before_anything_is_known_hides_no_champion(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.retrain()

    def full(*_: Any) -> DatasetVersion:
        monkeypatch.setattr(retrain_steps, "bring_up_to_date", world.data)
        raise StorageError("dvc repro did not finish: No space left on device")

    monkeypatch.setattr(retrain_steps, "bring_up_to_date", full)
    ended = world.retrain()
    assert (ended.outcome, ended.champion, world.runs, world.record()["tries"]) == ("unchanged", "1", 1, 2)


def test_a_promotion_whose_answer_was_lost_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*arguments: Any, **how: Any) -> str:
        promote_version(*arguments, **how)
        monkeypatch.setattr(retrain_steps, "promote_version", promote_version)
        raise TimeoutError("the server was slow")

    monkeypatch.setattr(retrain_steps, "promote_version", lost)
    ended = world.retrain()
    assert (ended.outcome, ended.champion) == ("promoted", "1") and world.record()["tries"] == 2
    assert [one.outcome for one in history_of(world.ledger, NAME)] == ["done"]


def test_an_interruption_is_told_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(retrain_steps, "pipeline", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.retrain()
    assert world.record()["outcome"] == "killed" and world.run().info.status == "KILLED"


# --- without a ledger -------------------------------------------------------------------------------------------------


def job(**other: Any) -> Job:
    how: dict[str, Any] = {"paths": None, "config": CONFIG, "say": lambda line: None, "cause": "", "is_forced": False}
    return Job(**(how | {"command": "make retrain METHOD=dpo", "id": "", "created": None} | other))


def test_faults_that_stay_are_not_tried_again_and_the_last_one_is_told() -> None:
    rested: list[float] = []

    def work(raised: Exception) -> Any:
        def fails(job: Job) -> Retrained:
            raise raised

        return fails

    with pytest.raises(RequestError, match="no such setting"):
        patiently(job(), work(RequestError("no such setting")), rest=rested.append)
    assert rested == []
    refused = urllib.error.URLError(ConnectionRefusedError("nobody"))
    with pytest.raises(StorageError) as told:
        patiently(job(), work(refused), rest=rested.append)
    assert rested == [1.0, 2.0] and str(told.value) == (
        "the retraining ended after 3 tries: URLError: <urlopen error nobody>. The champion is as it was, and finished stages "
        "are kept. See that servers answer (make status) and the disk has room, then: make retrain METHOD=dpo"
    )
    rested.clear()
    none = merge({}, ["retraining.retries=0"])
    with pytest.raises(StorageError, match="after 1 tries"):
        patiently(job(config=none), work(refused), rest=rested.append)
    assert rested == []


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("method=few_shot", "few_shot trains nothing, so there is nothing to retrain"),
        ("tracking.register_model=false", "tracking.register_model must be true for a retraining, got false"),
        ("evaluate.part=development", "evaluate.part must be all or reported for a retraining, got development"),
        ("evaluate.max_new_tokens=4000", "evaluate.max_new_tokens must be less than model.context"),
    ],
)
def test_what_is_no_retraining_is_refused_before_anything_runs(word: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=says):
        check_request(merge({}, [word]), Paths(tmp_path))


def test_the_command_names_what_params_yaml_does_not(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("dpo: {beta: 0.2}\nseed: 3\n")
    usual = {"dpo": {"beta": 0.2}, "seed": 3}
    assert command_of(Paths(tmp_path), merge(usual)) == "make retrain METHOD=dpo DATA=world"
    words = ["method=sft", "data.name=mine", "seed=4", "tracking.model_license=a b", "evaluate.judge=true"]
    assert command_of(Paths(tmp_path), merge(usual, words)) == (
        """make retrain METHOD=sft DATA=mine SET='seed=4 evaluate.judge=true '"'"'tracking.model_license=a b'"'"''"""
    )


def test_the_stage_that_measures_a_champion_is_given_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, folder = Paths(tmp_path), tmp_path / "version"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    validated = Artifact("validate", "k", str(tmp_path / "v"), 1.0, {"context": 77.0}, {}, "digest of v")
    asked: dict[str, Any] = {}
    monkeypatch.setitem(__import__("sys").modules, "models.load", SimpleNamespace(context_length=lambda folder, model: 77))
    monkeypatch.setattr(retrain_champion, "find", lambda paths, stage, key: (validated, ""))
    monkeypatch.setattr(retrain_champion, "local_path", lambda ledger, uri, say: folder)
    monkeypatch.setattr(
        retrain_champion,
        "Run",
        lambda **how: SimpleNamespace(stage=lambda name, compute, **given: asked.update(given, name=name, how=how)),
    )
    logged: list[Any] = []
    ledger: Any = SimpleNamespace(
        tag=lambda run_id, tags: logged.append((run_id, tags)),
        log_cached_stage=lambda run_id, path: logged.append((run_id, path)),
        client=SimpleNamespace(get_model_version=lambda name, version: SimpleNamespace(tags={"posttrain.weights_sha256": "w"})),
    )
    of = job(paths=paths, name=NAME, run_id="r", report={"stages": [{"name": "validate", "key": "k"}]})
    retrain_champion._measure(of, ledger, "3")
    assert logged == [("r", {MEASURED_TAG: f"models:/{NAME}/3"}), ("r", tmp_path / "v")]
    assert asked["name"] == "evaluate-champion" and asked["how"]["parent"] == "r" and asked["context"] == 77
    assert asked["version"] == Contents(folder, "w") and asked["data"] is validated and asked["part"] is None

    # a limit that follows the data is the number of the challenger's pipeline: 1.25 × 20 = 25, in steps of 8
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "lengths.json").write_text('{"demonstrations": {"completions": {"20": 9}, "prompts": {}}}')
    both = {"stages": [{"name": name, "key": "k"} for name in ("validate", "tokenizer")]}
    config = merge({}, ["evaluate.max_new_tokens=auto"])
    retrain_champion._measure(job(paths=paths, name=NAME, run_id="r", report=both, config=config), ledger, "3")
    assert asked["settings"].max_new_tokens == 32

    monkeypatch.setattr(retrain_champion, "find", lambda paths, stage, key: (None, ""))
    with pytest.raises(StorageError, match=r"validate: the result k was removed while the pipeline ran\. Run again"):
        retrain_champion.stage_of(paths, of.report or {}, "validate")
