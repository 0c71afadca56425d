"""A comparison on a local cluster of Dask and of Ray has the report that it has in processes of this machine."""

import json
from importlib.util import find_spec

import pytest

from benchmarks.compare import same
from tests.flows.houses import new_house, run

pytestmark = pytest.mark.slow
ASKED = ("compare", "METHODS=sft", "SEEDS=2", "WORKERS=2", "pretrain.steps=40", "sft.max_steps=4", "evaluate.samples=2")


def record(house):
    return same(json.loads((house / "reports" / "compare" / "latest.json").read_text()))


@pytest.fixture(scope="module")
def by_processes(tmp_path_factory):
    house = new_house(tmp_path_factory.mktemp("processes"))
    run(house, *ASKED)
    return record(house)


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_local_cluster_gives_the_report_of_processes(tmp_path, runner, request, monkeypatch):
    if find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed here: the extra {runner}")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    wanted = request.getfixturevalue("by_processes")
    house = new_house(tmp_path / "house")
    run(house, *ASKED, f"RUNNER={runner}", fresh=True)
    found = record(house)
    assert found == wanted
    (method,) = (one for one in found["methods"] if one["name"] == "sft")
    assert found["status"] == "complete" and len(method["scores"]) >= 1, "there is something to be equal"
