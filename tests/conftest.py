"""A quiet, offline environment before any library is imported, and one tiny world that tests of networks share."""

import fcntl
import gc
import hashlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from flows.environment import QUIET

# tiny networks are quicker on one thread each: two processes of pytest with two threads each wait for one another
for name, value in {**QUIET, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}.items():
    os.environ.setdefault(name, value)

# a job in the background of a script ignores Ctrl-C, one under nohup a closed terminal, and what tests start inherits that
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# an example that takes long on a busy machine says nothing of the code
hypothesis.settings.register_profile("posttrain", deadline=None)
hypothesis.settings.load_profile("posttrain")


@dataclass(frozen=True)
class TinyWorld:
    """A dataset, its tokenizer and a base that has seen just enough of it.

    Attributes:
        data: folder with corpus, demonstrations, questions and held_out.
        tokenizer: folder of the tokenizer.
        base: artifact of the base, with `model/` in it.
        context: tokens of prompt and response together.
    """

    data: Path
    tokenizer: Path
    base: Path
    context: int = 128


@pytest.fixture(scope="session")
def one_thread():
    """Tiny networks are quicker on one thread, and then leave the other core to someone else."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def world_records() -> Mapping[str, list]:
    """Every record of the tiniest world, by role."""
    from posttrain.data.world import generate
    from posttrain.settings.data import WorldSettings

    records: dict[str, list] = {}
    for role, record in generate(WorldSettings(corpus_documents=400, demonstrations=32, questions=24, held_out=24)):
        records.setdefault(role, []).append(record)
    return records


@pytest.fixture(scope="session")
def tiny_world(
    tmp_path_factory: pytest.TempPathFactory, world_records: Mapping[str, list], one_thread: None
) -> Iterator[TinyWorld]:
    """The tiniest world as files, and a base of 26,000 parameters pretrained on it for 50 steps. Read only: copy to change.

    It is made once, by the process of pytest that needs it first, and is the same for all: none may leave anything in it.
    """
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "tiny world"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            unfinished = tmp_path_factory.mktemp("tiny world")
            make_tiny_world(tiny_world_in(unfinished), world_records)
            unfinished.rename(shared)
    before = digests(shared)
    yield tiny_world_in(shared)
    assert digests(shared) == before, "a test has changed the world that all tests read"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository's root with a ledger and nothing in it. Read only: making its tables takes a second, copying them none."""
    from posttrain.settings.evaluation import TrackingSettings
    from tasks.tracking.ledger import Ledger
    from tasks.workspace.paths import Paths

    root = tmp_path_factory.mktemp("empty store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Ledger.open(Paths(root), TrackingSettings())
    return root


def tiny_world_in(folder: Path) -> TinyWorld:
    return TinyWorld(data=folder / "data", tokenizer=folder / "tokenizer" / "tokenizer", base=folder / "base")


def digests(folder: Path) -> dict[str, str]:
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*")) if file.is_file()}


def make_tiny_world(made: TinyWorld, records: Mapping[str, list]) -> None:
    from posttrain.settings.model import ModelSettings, PretrainSettings, TinySettings
    from tasks.base_model import pretrain, tokenizer
    from tasks.workspace.jsonl import write_rows

    for folder in (made.data, made.tokenizer.parent, made.base):
        folder.mkdir()
    for role, rows in records.items():
        write_rows(made.data / f"{role}.jsonl", (record.model_dump(mode="json") for record in rows))
    model, network = ModelSettings(context=made.context), TinySettings(layers=2, width=32, heads=2)
    tokenizer.make_tokenizer(
        made.tokenizer.parent, lambda *_: None, data=made.data, dataset="world", model=model, settings=network
    )
    pretrain.make_base(
        made.base,
        lambda *_: None,
        data=made.data,
        tokenizer=made.tokenizer,
        model=model,
        tiny_settings=network,
        settings=PretrainSettings(steps=50, batch_tokens=1_024, learning_rate=1e-2),
        seed=0,
    )


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of every later collection of garbage: millions of objects, and none of them is garbage.

    Else a full collection takes a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def no_collection() -> Iterator[None]:
    """Let nobody collect garbage: statsmodels' `multipletests` does in every call, for a second behind tests that load much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda *_: 0)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process of pytest is left alone with one at the end.

    A file whose every test is slow (`pytestmark`) trains for minutes. Of these, and of the others, whole runs come first.
    """
    of_file: dict[Path, list[pytest.Item]] = {}
    for item in items:
        of_file.setdefault(item.path, []).append(item)

    def weight(item: pytest.Item) -> tuple[bool, bool, bool]:
        slow = [one.get_closest_marker("slow") is not None for one in of_file[item.path]]
        return not all(slow), "flows" not in item.path.parts, not any(slow)

    items.sort(key=weight)
