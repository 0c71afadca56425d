"""Nodes that meet, or do not: what is sent, what is refused with which sentence, and no process left behind."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from posttrain.errors import ContractError, DataError, RequestError
from posttrain.settings.launch import LaunchSettings
from tasks.launch import Launch, Place, _alone, _among
from tasks.nodes.alike import difference, identity
from tasks.nodes.board import Board, split_endpoint
from tasks.nodes.first import FirstNode
from tasks.nodes.other import OtherNode
from tasks.nodes.parcel import packed, unpacked
from tasks.workspace.artifacts import Outcome, make
from tasks.workspace.keys import ROOMS
from tasks.workspace.paths import Paths
from tests.ports import free_port
from tests.tasks.nodes.node import OWN

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Nested:
    path: Path
    other: Path


# --- what is sent -----------------------------------------------------------------------------------------------------


def house(folder):
    """Return a folder with one finished stage."""
    paths = Paths(folder)

    def compute(out, log):
        (out / "number.txt").write_text("3")
        return Outcome()

    make(paths, "base", "k", compute, settings={}, inputs={})
    return paths


def test_paths_are_those_of_each_nodes_own_root(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    paths = house(one)
    (paths.checkpoints / "ppo" / "k").mkdir(parents=True)
    (paths.checkpoints / "ppo" / "k" / "step-00000003.pt").write_bytes(b"12345")
    (one / "data").mkdir()
    arguments = {
        "base": paths.stages / "base" / "k" / "model",
        "reward": Nested(path=one / "data", other=Path("/elsewhere/model")),
        "checkpoints": paths.checkpoints / "ppo" / "k",
        "findings": paths.findings("reward_model", "mine"),
        "beta": 0.1,
        "missing": one / "labels.jsonl",
    }
    told, seen = packed(arguments, paths)
    got = unpacked(told, two)
    there = Paths(two)
    assert got["base"] == there.stages / "base" / "k" / "model"
    assert got["reward"] == Nested(path=two / "data", other=Path("/elsewhere/model"))
    assert got["checkpoints"] == there.checkpoints / "ppo" / "k" and got["findings"] == there.findings("reward_model", "mine")
    assert (got["beta"], got["missing"]) == (0.1, two / "labels.jsonl")
    assert seen.stages == [("base", "k")] and seen.others == ["data"]
    assert seen.checkpoints == {".posttrain/checkpoints/ppo/k": {"step-00000003.pt": 5}}


def test_what_must_be_alike():
    own = identity({"seed": 0})
    assert own == identity({"seed": 0}) and set(own) == {"code", "libraries", "settings"}
    other = identity({"seed": 1})
    assert (own["code"], own["libraries"]) == (other["code"], other["libraries"]) and own["settings"] != other["settings"]
    assert difference(own, own, node=1) == ""
    assert difference(OWN, OWN | {"code": "d" * 64}, node=3) == (
        "node 3 has other code than node 0 (dddddddddddd there, aaaaaaaaaaaa on node 0): bring both to one commit"
    )


def test_an_edit_of_any_room_is_other_code(tmp_path, monkeypatch):
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("")
    found = {room: type("Spec", (), {"origin": str(tmp_path / room / "__init__.py")}) for room in ROOMS}
    monkeypatch.setattr("tasks.nodes.alike.find_spec", lambda room: found[room])
    before = identity({})["code"]
    (tmp_path / ROOMS[-1] / "new.py").write_text("x = 1\n")
    assert identity({})["code"] != before


@pytest.mark.parametrize(
    "endpoint", ["", "node-0", "node-0:", ":29500", "node-0:80", "node-0:70000", "http://node-0:29500", "node-0:a"]
)
def test_an_endpoint_of_another_form_is_refused(endpoint):
    with pytest.raises(RequestError) as told:
        split_endpoint(endpoint)
    assert str(told.value) == (
        "launch.rdzv_endpoint must be host:port of node 0, with a port between 1024 and 65535, such as node-0:29500, got "
        f"{endpoint!r}"
    )


def test_an_endpoint():
    assert split_endpoint("node-0.example:29500") == ("node-0.example", 29500)


def test_agents_of_several_machines_are_not_bound_to_this_one():
    assert _alone() == {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "local_addr": "127.0.0.1"}
    place = Place(node=1, nodes=2, host="node-0", port=4000, seconds=9.5)
    assert _among(place) == {
        "rdzv_backend": "static",
        "rdzv_endpoint": "node-0:4000",
        "rdzv_configs": {"rank": 1, "timeout": 10},
    }
    assert not place.is_on_one_machine and Place(0, 2, "127.0.0.1", 4000, 9.5).is_on_one_machine


# --- who does not come ------------------------------------------------------------------------------------------------


def settings(port, node=0, nodes=2, seconds=60.0):
    return LaunchSettings(nnodes=nodes, node_rank=node, rdzv_endpoint=f"127.0.0.1:{port}", join_seconds=seconds)


def first(paths, port, said=None, **how):
    return FirstNode(paths, settings(port, **how), OWN, shared=None, say=(said if said is not None else []).append)


def other(paths, port, own=OWN, shared=None, **how):
    return OtherNode(paths, settings(port, node=1, **how), own, shared=shared, say=lambda line: None)


def launch(node, paths, **arguments):
    out = paths.root / "out"
    out.mkdir(parents=True)
    stage = Launch("nothing:at_all", out, print, arguments, stage="sft", processes=1, logs=paths.logs / "sft")
    return node.launch(stage)


def test_a_node_that_does_not_come_is_named(tmp_path):
    port, said = free_port(), []
    node = first(Paths(tmp_path), port, said, nodes=3, seconds=0.5)
    other(Paths(tmp_path / "other"), port, nodes=3)
    with pytest.raises(RequestError) as told:
        launch(node, Paths(tmp_path))
    assert said == [f"waiting for 1 of 2 other nodes at 127.0.0.1:{port}"]
    assert str(told.value) == (
        f"launch.nnodes=3: 2 of 3 nodes came to 127.0.0.1:{port} within launch.join_seconds (0.5); missing: node 2. Start the "
        "same command there, each with its launch.node_rank"
    )


def test_node_0_that_does_not_come_is_told(tmp_path):
    port = free_port()
    with pytest.raises(RequestError) as told:
        other(Paths(tmp_path), port, seconds=0.3)
    assert str(told.value) == (
        f"launch.rdzv_endpoint=127.0.0.1:{port}: node 0 did not come within launch.join_seconds (0.3): Connection refused. Start "
        "the same command there, with launch.node_rank=0"
    )


def test_a_port_that_is_taken_is_told(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(RequestError, match=r"^launch\.rdzv_endpoint=127\.0\.0\.1:\d+: node 0 cannot listen there: "):
            first(Paths(tmp_path), taken.getsockname()[1])


@pytest.mark.parametrize(
    ("what", "remedy"),
    [
        ("code", "bring both to one commit"),
        ("libraries", "install both with constraints.txt"),
        ("settings", "give all nodes the same params.yaml, profile and words, but for launch.node_rank"),
    ],
)
def test_unlike_nodes_refuse_each_other_with_both_digests(tmp_path, what, remedy):
    port = free_port()
    node = first(Paths(tmp_path), port)
    says = f"node 1 has other {what} than node 0 (dddddddddddd there, {OWN[what][:12]} on node 0): {remedy}"
    with pytest.raises(RequestError) as here:
        other(Paths(tmp_path / "other"), port, OWN | {what: "d" * 64})
    with pytest.raises(RequestError) as there:
        launch(node, Paths(tmp_path))
    assert str(here.value) == str(there.value) == says


def meeting(tmp_path, prepare, **arguments):
    """Let node 0 ask for a stage that node 1 cannot compute; return what both say."""
    port = free_port()
    here, there = Paths(tmp_path / "one"), Paths(tmp_path / "two")
    arguments = {name: here.root / value for name, value in arguments.items()}
    there.root.mkdir(parents=True)
    prepare(here, there)
    node, said = first(here, port), []

    def serve():
        try:
            other(there, port).serve()
        except (RequestError, ContractError) as error:
            said.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(RequestError) as told:
        launch(node, here, **arguments)
    node.close(str(told.value))
    thread.join(60)
    return str(told.value), *said


def test_a_stage_that_the_other_node_cannot_have_is_told_by_both(tmp_path):
    says = "stage sft: node 1 has no stage base/k: set store.uri on all nodes, or let all have one folder .posttrain/stages"
    assert meeting(tmp_path, lambda one, two: house(one.root), start=".posttrain/stages/base/k") == (says, says)


def test_checkpoints_that_the_other_node_does_not_see_are_told(tmp_path):
    def keep(one, two):
        for paths, size in ((one, 5), (two, 4)):
            (paths.checkpoints / "ppo" / "k").mkdir(parents=True)
            (paths.checkpoints / "ppo" / "k" / "step-00000001.pt").write_bytes(b"x" * size)

    says = (
        "stage sft: node 1 does not see the checkpoints that node 0 goes on from (.posttrain/checkpoints/ppo/k): let all have "
        "one folder .posttrain/checkpoints, or remove it on all, and the stage begins anew"
    )
    assert meeting(tmp_path, keep, checkpoints=".posttrain/checkpoints/ppo/k") == (says, says)


def test_a_file_that_the_other_node_lacks_is_told(tmp_path):
    def write(one, two):
        one.root.mkdir(parents=True, exist_ok=True)
        (one.root / "reward.py").write_text("")

    says = "stage sft: node 1 has no reward.py, which the stage reads: put it there"
    assert meeting(tmp_path, write, reward="reward.py") == (says, says)


def test_the_other_node_ends_with_the_pipeline(tmp_path):
    port = free_port()
    node = first(Paths(tmp_path), port)
    served, waiting = [], threading.Thread(target=lambda: served.append(other(Paths(tmp_path / "two"), port).serve()))
    waiting.start()
    board = Board(f"127.0.0.1:{port}", is_first=False, seconds=60.0)
    assert board.wait(["hello/1"], 60.0) == []
    node.close("")
    waiting.join(60)
    assert served == [0] and board.has("bye/1")


def test_node_0_may_be_gone_before_the_processes_of_the_last_stage_have_ended(tmp_path, monkeypatch):
    port = free_port()
    node = first(Paths(tmp_path), port)
    waits = other(Paths(tmp_path / "two"), port)
    asked = {"compute": "a:b", "stage": "sft", "processes": 1, "port": 1, "logs": "sft"}
    parcel, seen = packed({}, Paths(tmp_path))
    waits._paths.root.mkdir()

    def compute(launch):
        closing = threading.Thread(target=node.close, args=("",))
        closing.start()
        while closing.is_alive():
            launch.look()
        del node._board._store  # as the end of its process does
        with pytest.raises(ContractError, match="node 0 does not answer any more"):
            waits._board.has("launch/1")
        launch.look()

    node._board.put("launch/0", pickle.dumps({**asked, "seen": seen, "arguments": parcel}))
    monkeypatch.setattr("tasks.nodes.other.call_on_processes", compute)
    assert waits.serve() == 1


def test_the_other_node_tells_why_node_0_ended(tmp_path):
    port = free_port()
    node = first(Paths(tmp_path), port)
    waits = other(Paths(tmp_path / "two"), port)
    closing = threading.Thread(target=node.close, args=("the reward tells nothing",))
    closing.start()
    with pytest.raises(ContractError, match=r"^the pipeline on node 0 ended: the reward tells nothing$"):
        waits.serve()
    closing.join(60)


# --- who computes -----------------------------------------------------------------------------------------------------


def started(node, folder, port, request):
    command = [sys.executable, "-m", "tests.tasks.nodes.node", str(node), str(folder), f"127.0.0.1:{port}", json.dumps(request)]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **how)


def told_by(nodes):
    told = []
    for node in nodes:
        out, err = node.communicate(timeout=400)
        assert node.returncode == 0, err
        told.append(json.loads(out))
    return told


@pytest.mark.slow
def test_two_nodes_of_two_folders_compute_a_stage(tmp_path):
    pytest.importorskip("obstore", reason="obstore is not installed here: the extra store")
    house(tmp_path / "one")
    (tmp_path / "two").mkdir()
    arguments = {"stage_path": ".posttrain/stages/base/k", "checkpoints_path": ".posttrain/checkpoints/x/k"}
    request = {"compute": "tests.tasks.launched_stages:read", "arguments": arguments, "uri": (tmp_path / "shared").as_uri()}
    port = free_port()
    first, other = told_by([started(node, tmp_path / name, port, request) for node, name in enumerate(("one", "two"))])
    assert first == {"told": {"seen": 6.0, "kept": 0.0, "ranks": 1.0}} and other == {"told": 1}
    assert (tmp_path / "one" / ".posttrain" / "stages" / "x" / "made" / "result.txt").read_text() == "[6.0, 0.0, 1.0]"
    assert sorted(path.name for path in (tmp_path / "two" / ".posttrain").iterdir()) == ["logs", "stages"], "nothing else is left"
    assert [path.name for path in (tmp_path / "two" / ".posttrain" / "stages").iterdir()] == ["base"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("refuse", DataError, "node 1: a row is wrong"),
        ("kill", ContractError, "node 1: stage x: process 1 of 2 was killed by signal 9"),
    ],
)
def test_what_fails_on_another_node_is_told_by_node_0(tmp_path, how, kind, says):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    request = {"compute": "tests.tasks.launched_stages:fail", "arguments": {"who": 1, "how": how}}
    port = free_port()
    first, other = told_by([started(node, tmp_path / name, port, request) for node, name in enumerate(("one", "two"))])
    assert first["kind"] == kind.__name__ and first["error"].startswith(says)
    assert other["error"] == first["error"].removeprefix("node 1: ")


@pytest.mark.slow
def test_a_node_ends_when_node_0_is_killed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    request = {"compute": "tests.tasks.launched_stages:wait", "arguments": {"at": str(tmp_path)}}
    port = free_port()
    first, other = (started(node, tmp_path / name, port, request) for node, name in enumerate(("one", "two")))
    files = [tmp_path / f"pid-{rank}" for rank in range(2)]
    until(lambda: all(file.exists() and file.read_text() for file in files) or first.poll() is not None)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    (told,) = told_by([other])
    assert told["kind"] == "ContractError" and "node 0 does not answer any more" in told["error"]
    until(lambda: not any(psutil.pid_exists(int(file.read_text())) for file in files))


def until(is_so):
    deadline = time.monotonic() + 300
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)
