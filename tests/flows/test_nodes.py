"""A pipeline on several machines: what is refused before anything is loaded, and two checkouts that make one's weights."""

import pytest
import torch
from safetensors.torch import load_file

from flows import nodes as subject
from flows.nodes import check_nodes, join, launching, refuse_nodes
from posttrain.errors import RequestError
from posttrain.settings.config import merge
from tasks.launch import call_on_processes
from tasks.workspace.paths import Paths
from tests.flows.houses import command, fork, new_house, report
from tests.ports import free_port

STEPS = ("sft.max_steps=3", "sft.learning_rate=3e-4")
"""Of a few small steps: how far a sum in another order carries a weight grows with their size."""


def config(*words):
    return merge({}, words)


def test_one_machine_launches_as_before(tmp_path):
    with launching(Paths(tmp_path), config(), print) as launch:
        assert launch is call_on_processes


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["launch.node_rank=1"], r"^launch\.node_rank must be less than launch\.nnodes \(1\), got 1: nodes are counted from 0$"),
        (["launch.nnodes=2", "launch.node_rank=2"], r"^launch\.node_rank must be less than launch\.nnodes \(2\), got 2"),
        (["launch.nnodes=2"], r"^launch\.rdzv_endpoint must be host:port of node 0, .*, got ''$"),
        (
            ["launch.nnodes=2", "launch.rdzv_endpoint=node-0"],
            r"^launch\.rdzv_endpoint must be host:port of node 0, .*, got 'node-0'$",
        ),
    ],
)
def test_a_place_that_there_is_not_is_refused(tmp_path, words, says):
    with pytest.raises(RequestError, match=says):
        check_nodes(config(*words))
    with pytest.raises(RequestError, match=says):
        join(Paths(tmp_path), config(*words), print)
    with pytest.raises(RequestError, match=says), launching(Paths(tmp_path), config(*words), print):
        pass


def test_only_a_pipeline_of_its_own_has_several_machines():
    refuse_nodes(config(), "a comparison")
    with pytest.raises(RequestError) as told:
        refuse_nodes(config("launch.nnodes=2"), "a comparison")
    assert str(told.value) == (
        "launch.nnodes must be 1 for a comparison, got 2: several machines compute a make pipeline. Give it there behind SET, "
        "and not in params.yaml"
    )


def test_nodes_may_differ_in_their_number_and_their_servers_alone():
    own = subject._own(config("launch.nnodes=2", "launch.rdzv_endpoint=a:2000"))
    alike = ["launch.node_rank=1", "tracking.uri=http://127.0.0.1:5000", "servers.mlflow_port=5001"]
    assert subject._own(config("launch.nnodes=2", "launch.rdzv_endpoint=a:2000", *alike)) == own
    for word in ("seed=1", "model.processes=2", "store.uri=file:///x", "launch.join_seconds=5"):
        other = subject._own(config("launch.nnodes=2", "launch.rdzv_endpoint=a:2000", word))
        assert other["settings"] != own["settings"] and other["code"] == own["code"], word


def weights(house):
    told = next(stage for stage in report(house)["stages"] if stage["name"] == "sft")
    return load_file(house / ".posttrain" / "stages" / "sft" / told["key"] / "model" / "model.safetensors"), told["key"]


@pytest.mark.slow
def test_two_checkouts_make_the_weights_of_one_and_only_node_0_reports(tmp_path):
    pytest.importorskip("obstore", reason="obstore is not installed here: the extra store")
    houses = [new_house(tmp_path / name) for name in ("one", "two", "alone")]
    port = free_port()
    words = ["pipeline", "method=sft", f"store.uri={(tmp_path / 'shared').as_uri()}", *STEPS]
    nodes = ["launch.nnodes=2", f"launch.rdzv_endpoint=127.0.0.1:{port}"]
    other = command(houses[1], *words, *nodes, "launch.node_rank=1")  # of forks there is one at a time
    run = fork(houses[0], *words, *nodes, "launch.node_rank=0")
    out, err = run.communicate(timeout=500)
    assert run.returncode == 0 and "Traceback" not in err, out + err
    out, err = other.communicate(timeout=100)
    assert other.returncode == 0 and "Traceback" not in err, out + err
    assert "node 1: the pipeline on node 0 is done; 1 stages were computed with this node" in err
    assert not list((houses[1] / "reports").rglob("*.*")), "only node 0 reports"
    assert not (houses[1] / "mlflow" / "store" / "mlflow.db").exists(), "and registers"
    assert not list((houses[1] / ".posttrain" / "stages").glob("sft/*/stage.json"))
    single = fork(houses[2], "pipeline", "method=sft", *STEPS)
    out, err = single.communicate(timeout=500)
    assert single.returncode == 0, out + err
    (made, key), (alone, same) = weights(houses[0]), weights(houses[2])
    assert key == same, "how many nodes there are is in no key"
    for name, value in alone.items():
        torch.testing.assert_close(made[name], value, atol=1e-5, rtol=0)
    (base,) = (load_file(file) for file in (houses[2] / ".posttrain" / "stages" / "base").glob("*/model/model.safetensors"))
    assert max(float((value - base[name]).abs().max()) for name, value in alone.items()) > 3e-4, "it can fail"
    logs = next((houses[0] / ".posttrain" / "logs").glob("sft-*"))
    assert sorted(file.name for file in logs.iterdir()) == ["process-0.log", "torchrun.log"]
