"""Which finished pipelines a comparison takes in the place of running them: of the same stages, and still in MLflow."""

import json
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from flows.jobs import Job
from flows.probe import Probed, ProbedStage
from flows.taken import FinishedReports
from tasks.workspace.paths import Paths

SFT = Job("sft", 0)
KEYS = {"base": "b1", "sft": "s1"}
RUNS = {"whole": ("FINISHED", "active"), "failed": ("FAILED", "active"), "removed": ("FINISHED", "deleted")}


class Client:
    """MLflow with three runs; any other it does not know."""

    def get_run(self, run_id):
        if run_id not in RUNS:
            raise MlflowException("no such run")
        status, stage = RUNS[run_id]
        return SimpleNamespace(info=SimpleNamespace(status=status, lifecycle_stage=stage))


def probed(keys=KEYS):
    return Probed(tuple(ProbedStage(name=name, key=key, settings={}, artifact=None) for name, key in keys.items()))


@pytest.fixture
def house(tmp_path):
    """Reports on disk, and what takes them."""
    paths = Paths(tmp_path)
    paths.reports.mkdir()

    def write(name, *, method="sft", seed=0, keys=KEYS, run_id="whole", version="1"):
        told = {
            "pipeline_id": name,
            "method": method,
            "seed": seed,
            "stages": [{"name": stage, "key": key} for stage, key in keys.items()],
            "model": {"version": version},
            "mlflow": {"run_id": run_id},
        }
        (paths.reports / f"{name}.json").write_text(json.dumps(told))

    def taken(job=SFT, stages=KEYS):
        report = FinishedReports(paths, SimpleNamespace(client=Client())).of(job, probed(stages))
        return report and report["pipeline_id"]

    return SimpleNamespace(folder=paths.reports, write=write, taken=taken)


def test_the_newest_report_of_exactly_these_stages_is_taken(house):
    house.write("20261101-120000-sft-a")
    house.write("20261102-120000-sft-b")
    house.write("20261103-120000-sft-c", keys=KEYS | {"sft": "s2"})
    assert house.taken() == "20261102-120000-sft-b"
    assert house.taken(stages=KEYS | {"sft": "s2"}) == "20261103-120000-sft-c"
    assert house.taken(stages={"base": "b1"}) is None, "fewer stages are another pipeline"
    assert house.taken(stages=KEYS | {"dpo": "d1"}) is None, "and so are more"


def test_another_method_or_seed_is_another_job(house):
    house.write("20261101-120000-sft-a")
    assert house.taken(Job("dpo", 0)) is None and house.taken(Job("sft", 1)) is None


@pytest.mark.parametrize("run_id", ["failed", "removed", "unknown"])
def test_what_mlflow_no_longer_has_whole_is_not_taken_but_an_older_one_is(house, run_id):
    house.write("20261102-120000-sft-b", run_id=run_id)
    assert house.taken() is None
    house.write("20261101-120000-sft-a")
    assert house.taken() == "20261101-120000-sft-a"


def test_what_registered_no_model_is_a_trial_and_serves_trials_alone(house):
    house.write("20261101-120000-sft-a", version=None)
    assert house.taken() is None
    assert house.taken(Job("sft", 0, purpose="trial")) == "20261101-120000-sft-a"
    house.write("20261031-120000-sft-o")
    assert house.taken() == "20261031-120000-sft-o", "a trial needs none, what is compared does"


def test_reports_that_cannot_be_read_are_none(house):
    (house.folder / "20261101-120000-sft-a.json").write_text('{"method": "sft"')
    (house.folder / "20261101-120001-sft-b.json").write_text('{"method": "sft"}')
    (house.folder / "20261101-120002-sft-c.json").write_text("[]")
    (house.folder / "latest.json").write_text("{}")
    assert house.taken() is None
    house.write("20261101-110000-sft-d")
    assert house.taken() == "20261101-110000-sft-d"
