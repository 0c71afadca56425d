"""What a run will likely take of the memory is told before it starts, with what would make it fit."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from flows import memory
from flows.memory import check_memory, side_by_side
from posttrain.advice.memory import memory_of
from posttrain.advice.situation import Asked, Base, Machine, Situation
from posttrain.errors import RequestError
from posttrain.methods import METHODS
from posttrain.settings.config import merge

GIB = 2**30
SMOL = Base(
    name="./smol",
    is_tiny=False,
    weights=134_515_008,
    adapter_width=500_000,
    layers=30,
    width=576,
    cache_width=2 * 3 * 64,
    vocabulary=49_152,
)


def situation(gigabytes, words=()):
    config = merge({}, ["model.base=./smol", *words])
    asked = Asked(**memory.memory_asked(config))
    machine = Machine(memory=round(gigabytes * GIB), process=700 * 2**20)
    return Situation(dataset="d", base=SMOL, machine=machine, asked=asked, prompt_tokens=60, long_response_tokens=40)


@pytest.fixture
def told(monkeypatch, tmp_path):
    """Return what checks a request on a machine with so much memory; the lines are what it said."""

    def check(gigabytes, *words):
        lines = []
        monkeypatch.setattr(memory, "situation_of_memory", lambda config, folder: situation(gigabytes, words))
        check_memory(merge({}, ["model.base=./smol", *words]), tmp_path, lines.append)
        return lines

    return check


def test_sums_by_hand():
    """SFT of 134.5 M weights: 16 bytes each; 1,600 tokens, each 30 · 576 · 96 bytes, of logits 8 · 32,768 · 4; 700 MiB."""
    found = replace(situation(64), asked=Asked(device_rows={"sft": 16}))
    needed = memory_of(METHODS["sft"], found)
    assert needed.least == 16 * 134_515_008
    assert needed.likely == 16 * 134_515_008 + 16 * 100 * (30 * 576 * 96 + 8 * 32_768 * 4) + 700 * 2**20
    # checkpointed: 4 bytes of each block's input, and one block whole
    less = memory_of(METHODS["sft"], replace(found, asked=replace(found.asked, is_checkpointed=True)))
    assert needed.likely - less.likely == 16 * 100 * (30 * 576 * 96 - (30 * 576 * 4 + 576 * 96))
    # 512 sequences drawn at once keep 30 layers of 384 numbers of 4 bytes a token, beside the model and its weights laid out
    drawn = memory_of(METHODS["few_shot"], replace(found, asked=Asked(drawn_rows=512)))
    assert drawn.likely == 2 * 4 * 134_515_008 + 512 * 100 * 30 * 384 * 4 + 700 * 2**20


def test_a_run_that_fits_is_not_spoken_of(told, tmp_path):
    assert told(64, "method=sft") == []
    check_memory(merge({}, ["method=sft"]), tmp_path / "no such folder", pytest.fail)  # the tiny base fits everywhere


def test_a_run_that_likely_does_not_fit_is_told_with_what_would(told):
    assert told(8, "method=dpo", "sft.device_batch_size=8") == [
        "warning: DPO on ./smol takes about 26.5 GB at its peak (trained network 2.0), and there are 8.0 GB. What fits: "
        "dpo.device_batch_size=8"
    ]


def test_each_remedy_makes_it_fit(told):
    for method in METHODS:
        for line in told(9, f"method={method}", "dpo.device_batch_size=128", "ppo.device_batch_size=256"):
            for remedy in line.partition("What fits: ")[2].split(", or "):
                words = [f"method={method}", "dpo.device_batch_size=128", "ppo.device_batch_size=256", *remedy.split(" with ")]
                assert told(9, *words) == [], (line, remedy)


def test_networks_that_cannot_fit_are_refused(told):
    with pytest.raises(RequestError, match=r"^ReFT on \./smol .*alone are 4\.5 GB, and there are 2\.0 GB\. What fits: "):
        told(2, "method=reft")


@pytest.fixture
def beside(monkeypatch, tmp_path):
    """Return what says how many runs of SFT and ReFT go side by side on a machine with so much memory, and what is told."""

    def ask(gigabytes, *words, base="./smol", most=4, runs=2):
        lines = []
        monkeypatch.setattr(memory, "situation_of_memory", lambda config, folder: situation(gigabytes, words))
        configs = [merge({}, [f"method={method}", f"model.base={base}", *words]) for method in ("sft", "reft")]
        return side_by_side(configs[0], configs[:runs], tmp_path, most=most, say=lines.append), lines

    return ask


def test_as_many_runs_side_by_side_as_the_memory_holds(beside):
    assert beside(1_000) == (4, [])
    largest = max(memory_of(METHODS[name], situation(64)).likely for name in ("sft", "reft"))
    told = f"a run takes up to about {largest / GIB:,.1f} GB (ReFT)"
    assert beside(3 * largest / GIB + 0.01) == (
        3,
        [f"3 runs at a time in place of 4: {told}, and there are {3 * largest / GIB + 0.01:,.1f} GB"],
    )
    assert beside(3 * largest / GIB + 0.01, most=3) == (3, [])
    assert beside(3 * largest / GIB - 0.01)[0] == 2


def test_one_run_goes_where_not_even_one_fits_likely(beside):
    runs, lines = beside(5)
    assert runs == 1
    assert [line.partition(" ")[0] for line in lines] == ["warning:", "warning:", "1"], lines
    assert "1 run at a time in place of 4" in lines[-1]


def test_runs_side_by_side_that_were_asked_for_stand_with_a_warning(beside):
    runs, lines = beside(64, "compare.workers=4")
    assert runs == 4
    assert len(lines) == 1 and lines[0].startswith("warning: compare.workers=4 runs at a time, and memory is for 2: "), lines


def test_the_workers_of_a_cluster_and_the_tiny_base_are_not_counted(beside):
    assert beside(5, "compare.runner=dask") == (4, [])
    assert beside(5, base="tiny") == (4, [])


def test_a_comparison_of_which_a_run_cannot_fit_is_refused(beside):
    with pytest.raises(RequestError, match=r"^ReFT on \./smol .*alone are 4\.5 GB"):
        beside(3)
    assert beside(3, runs=0) == (4, [])  # all of them have been made, here or elsewhere: what is left is the page


def test_each_method_of_a_comparison_is_looked_at_once(monkeypatch, tmp_path):
    looked = []
    monkeypatch.setattr(memory, "situation_of_memory", lambda run, folder: looked.append(run.method) or situation(1_000))
    words = ["model.base=./smol"]
    runs = [merge({}, [f"method={method}", f"seed={seed}", *words]) for seed in (0, 1) for method in ("sft", "reft")]
    assert side_by_side(runs[0], runs, tmp_path, most=2, say=pytest.fail) == 2
    assert looked == ["sft", "reft"]


def test_lengths_and_base_are_looked_at(tiny_world, monkeypatch):
    config = merge({}, ["method=sft", f"model.base={tiny_world.base / 'model'}", "model.context=100"])
    found = memory.situation_of_memory(config, tiny_world.data)
    assert 5 < found.prompt_tokens < 60 and 5 < found.long_response_tokens < 60
    assert found.base.weights > 10_000 and found.base.cache_width == 2 * found.base.width and found.base.context == 100
    assert found.machine.memory > 2**28
    lines = []
    monkeypatch.setattr(
        "tasks.advice.machine.this_machine", lambda settings: SimpleNamespace(memory=1, has_gpu=True, weight_bytes=4, process=0)
    )
    with pytest.raises(RequestError, match="a smaller base, or a machine with more memory"):
        check_memory(config, tiny_world.data, lines.append)
