"""Stages on shared storage: made once, seen whole, in a folder and in a bucket; storage that fails holds nobody up."""

import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from posttrain.errors import RequestError
from posttrain.settings.store import StoreSettings
from tasks.workspace.artifacts import Outcome, find, make
from tasks.workspace.paths import Paths
from tasks.workspace.shared_stages import SharedStages, TroubleError, open_shared
from tests.ports import free_port

pytest.importorskip("obstore", reason="obstore is not installed here: the extra store")
KEY = "k" * 64
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bucket():
    """A bucket of a server that speaks S3."""
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    own = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": site, "AWS_REGION": "us-east-1"}
    try:
        until(lambda: server.poll() is None and answers(site))
        urllib.request.urlopen(urllib.request.Request(f"{site}/shared", method="PUT"), timeout=30)
        yield own
    finally:
        server.kill()
        server.wait()


def answers(site):
    try:
        return urllib.request.urlopen(site, timeout=5).status == 200
    except OSError:
        return False


def until(is_so):
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(params=["folder", "bucket"])
def uri(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return (tmp_path / "shared").as_uri()
    for name, value in request.getfixturevalue("bucket").items():
        monkeypatch.setenv(name, value)
    return f"s3://shared/{tmp_path.name}"


@pytest.fixture
def worker(tmp_path, uri):
    """Return a worker of a checkout of its own; it makes a stage, and says how often it computed and what it told."""

    class Worker:
        def __init__(self, name, *, lease=60.0):
            self.paths = Paths(tmp_path / name)
            self.shared = open_shared(StoreSettings(uri=uri, lease_seconds=lease))
            self.said, self.computed = [], 0

        def make(self, *, text="weights", compute=None):
            def own(out, log):
                self.computed += 1
                (out / "model").mkdir()
                (out / "model" / "weights.bin").write_text(text)
                return Outcome(metrics={"loss": 0.5}, costs={"labels": 3})

            how = {"settings": {"a": 1}, "inputs": {}, "say": self.said.append, "shared": self.shared}
            return make(self.paths, "sft", KEY, compute or own, **how)

    return Worker


def test_what_one_worker_made_the_other_takes(worker):
    one, other = worker("one"), worker("other")
    made, was_there = one.make()
    assert not was_there and one.computed == 1
    fetched, was_there = other.make(text="something else")
    assert was_there and other.computed == 0
    assert fetched.digest == made.digest and fetched.metrics == made.metrics and fetched.costs == made.costs
    assert (fetched.path / "model" / "weights.bin").read_text() == "weights"
    assert find(other.paths, "sft", KEY) == (fetched, "")
    assert sorted(path.name for path in (other.paths.stages / "sft").iterdir()) == [KEY, f"{KEY}.lock"]
    assert one.said == other.said == []


def test_two_that_want_the_same_make_it_once(worker):
    one, other = worker("one"), worker("other")
    begun, go_on = threading.Event(), threading.Event()

    def slow(out, log):
        begun.set()
        assert go_on.wait(120)
        (out / "weights").write_text("of one")
        return Outcome()

    results = {}
    first = threading.Thread(target=lambda: results.update(one=one.make(compute=slow)))
    first.start()
    assert begun.wait(120)
    second = threading.Thread(target=lambda: results.update(other=other.make()))
    second.start()
    until(lambda: other.said)
    assert other.said == [f"sft: another worker makes it (store.uri={other.shared.uri}); waiting for it"]
    go_on.set()
    first.join(120)
    second.join(120)
    assert other.computed == 0 and results["other"][1] and results["other"][0].digest == results["one"][0].digest


def test_a_stage_that_fails_lets_the_next_worker_make_it(worker):
    def fail(out, log):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        worker("one").make(compute=fail)
    other = worker("other")
    assert not other.make()[1] and other.computed == 1 and other.said == []


def test_a_worker_that_lives_keeps_its_turn_beyond_a_lease(worker):
    one, other = worker("one", lease=6.0), worker("other", lease=6.0)
    place = f"sft/{KEY}"
    with one.shared.turn("sft", KEY, print) as is_ours:
        assert is_ours
        seen = set()
        until(lambda: seen.update(one.shared._turns(place)) or len(seen) > 1)
        waiting = threading.Thread(target=other.make, daemon=True)
        waiting.start()
        until(lambda: other.said)
        until(lambda: seen.update(one.shared._turns(place)) or len(seen) > 5)  # four signs of life: more than a lease
        assert other.computed == 0
    waiting.join(120)
    assert other.computed == 1


PROGRAM = """
import os, sys, time
from pathlib import Path
from posttrain.settings.store import StoreSettings
from tasks.workspace.artifacts import Outcome, make
from tasks.workspace.paths import Paths
from tasks.workspace.shared_stages import open_shared

root, uri, when = sys.argv[1:]
shared = open_shared(StoreSettings(uri=uri, lease_seconds=2))

def compute(out, log):
    (out / "big").write_bytes(b"x" * 2**22)
    (out / "small").write_text("y")
    print("computing", flush=True)
    if when == "compute":
        time.sleep(600)
    return Outcome()

put = shared.offer
def offer(*given):
    print("offering", flush=True)
    if when == "before":
        time.sleep(600)
    put(*given)
shared.offer = offer
create = shared._create
def last(path, told):
    if when == "files" and path.endswith("made.json"):
        print("files", flush=True)
        time.sleep(600)
    return create(path, told)
shared._create = last
make(Paths(Path(root)), "sft", "k" * 64, compute, settings={}, inputs={}, shared=shared)
print("done", flush=True)
"""


@pytest.mark.parametrize(("when", "line"), [("compute", "computing"), ("before", "offering"), ("files", "files")])
def test_a_worker_that_is_killed_leaves_nothing_half(worker, uri, tmp_path, when, line):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "one"), uri, when]
    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    told = ""
    while told.strip() != line:
        told = killed.stdout.readline()
        assert told, "it ended"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    other = worker("other", lease=2.0)
    artifact, was_there = other.make()
    assert not was_there and other.computed == 1, "nobody else finished it, and the dead worker's turn has ended"
    assert (artifact.path / "model" / "weights.bin").is_file() and not (artifact.path / "big").exists()
    third = worker("third")
    assert third.make()[1] and third.computed == 0


def test_what_is_damaged_is_made_again_and_put_there_anew(worker):
    one, other, third = worker("one"), worker("other"), worker("third")
    one.make()
    import obstore

    store = one.shared._store
    (place,) = [path for path in one.shared._list(f"sft/{KEY}") if path.endswith("weights.bin")]
    obstore.put(store, place, b"wei")
    assert not other.make()[1] and other.computed == 1
    assert other.said == [f"note: model/weights.bin of stage sft at {one.shared.uri} is damaged, or gone; sft is made here"]
    assert third.make()[1] and third.said == []


@pytest.mark.parametrize("error", [ValueError, KeyError, FileNotFoundError])
def test_an_error_of_the_stage_is_not_called_one_of_the_storage(worker, error):
    one = worker("one")
    one.shared._create(f"sft/{KEY}/made.json", {"attempt": "gone", "files": {"weights": "0"}})

    def fail(out, log):
        raise error("of the stage")

    with pytest.raises(error, match="of the stage"):
        one.make(compute=fail)
    assert [line.rpartition("; ")[2] for line in one.said] == ["sft is made here"]
    assert not worker("two").make()[1] and worker("three").make()[1], "what named objects that are gone is there anew"


def test_a_file_outside_its_folder_is_refused(worker, tmp_path):
    one = worker("one")
    one.shared._create(f"sft/{KEY}/made.json", {"attempt": "a", "files": {"../../evil": "0"}})
    assert not one.make()[1]
    assert one.said[0].startswith(f"note: stage sft at {one.shared.uri} names a file outside its folder: ../../evil; ")
    assert not list(tmp_path.rglob("evil"))


def test_storage_that_does_not_answer_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.workspace.shared_stages.PATIENCE", __import__("datetime").timedelta(seconds=1))
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    shared, said = SharedStages("s3://shared/x", lease_seconds=60), []
    with pytest.raises(RequestError, match=r"^store\.uri=s3://shared/x does not answer, or refuses: "):
        shared.check()

    def compute(out, log):
        (out / "weights").write_text("w")
        return Outcome()

    artifact, was_there = make(Paths(tmp_path), "sft", KEY, compute, settings={}, inputs={}, say=said.append, shared=shared)
    assert not was_there and (artifact.path / "weights").is_file()
    assert [line.rpartition("; ")[2] for line in said] == ["sft is made here", "sft stays on this machine alone"]
    assert issubclass(TroubleError, RequestError)


@pytest.mark.parametrize("uri", ["bucket/x", "http://x/y", "s3:///x", "file://x/y", "file:///"])
def test_an_address_that_is_none_is_refused(uri):
    with pytest.raises(RequestError, match=r"^store\.uri"):
        open_shared(StoreSettings(uri=uri))


def test_without_an_address_there_is_none(monkeypatch):
    assert open_shared(StoreSettings()) is None
    monkeypatch.setattr("tasks.workspace.shared_stages.find_spec", lambda name: None)
    with pytest.raises(
        RequestError, match=r"^store\.uri needs obstore: .venv/bin/pip install -c constraints\.txt -e '\.\[store\]'$"
    ):
        open_shared(StoreSettings(uri="s3://a/b"))
