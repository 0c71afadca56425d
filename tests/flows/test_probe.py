"""A walk through a pipeline's stages that runs none: which are there, which two pipelines share, what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from flows.probe import Prober
from posttrain.errors import DataError, RequestError
from posttrain.settings.config import merge
from tasks.data.dvc import DatasetVersion
from tasks.workspace.artifacts import Outcome, make
from tasks.workspace.paths import Paths
from tests.tasks.base_model.ggufs import llama, write_gguf

ROOT = Path(__file__).resolve().parents[2]
ROLES = {
    "corpus": {"kind": "document", "text": "Tom has 2 apples."},
    "demonstrations": {"kind": "demonstration", "prompt": "1 and 1?", "completion": "So the answer is 2."},
    "questions": {"kind": "question", "prompt": "1 and 2?", "answers": ["3"]},
    "held_out": {"kind": "question", "prompt": "1 and 3?", "answers": ["4"]},
}


@pytest.fixture
def house(tmp_path):
    shutil.copytree(ROOT / "data" / "expectations", tmp_path / "data" / "expectations")
    (tmp_path / "data" / "world").mkdir()
    for role, row in ROLES.items():
        rows = [json.dumps({"id": f"{role}-{n}", **row}) for n in range(3)]
        (tmp_path / "data" / "world" / f"{role}.jsonl").write_text("\n".join(rows) + "\n")
    return Paths(tmp_path)


def prober(paths):
    files = {role: f"md5-of-{role}" for role in ROLES}
    data = DatasetVersion(name="world", folder=paths.data / "world", md5="whole", files=files, notes=())
    return Prober(paths, data, ledger=lambda: pytest.fail("no reward is a registered model"))


def probe(paths, *words):
    return prober(paths).probe(merge({}, words))


def keys(found):
    return {stage.name: stage.key for stage in found.stages}


def test_two_pipelines_share_the_stages_that_they_will_share(house):
    sft, dpo, reft = (keys(probe(house, f"method={method}")) for method in ("sft", "dpo", "reft"))
    shared = ["tokenizer", "validate", "base", "sft", "evaluate-sft", "evaluate-base"]
    assert [name for name in dpo if dpo[name] == reft.get(name)] == [name for name in dpo if name in shared]
    assert all(sft[name] == dpo[name] for name in sft) and list(sft) == shared
    assert list(dpo) == [*shared, "sample", "label", "dpo", "evaluate-dpo"]
    assert list(reft)[-2:] == ["evaluate-reft", "audit"]


def test_a_base_and_a_judge_that_are_gguf_files_are_found_for_settings_that_nobody_looked_into(house, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "data" / "judges", tmp_path / "data" / "judges")
    for name in ("base", "judge"):
        write_gguf(tmp_path / f"{name}.gguf", llama())
    words = ("model.base=./base.gguf", "judge.model=./judge.gguf", "judge.practice_steps=0")
    # the copies of a comparison's settings are made a job at a time, and are not those that were checked
    names = [list(keys(probe(house, *words, f"method={method}"))) for method in ("sft", "rlaif")]
    assert names[0] == ["tokenizer", "validate", "base", "sft", "evaluate-sft", "evaluate-base"] and "label" in names[1], names[1]
    (tmp_path / "judge.gguf").unlink()
    assert list(keys(probe(house, *words, "method=sft"))) == names[0], "a judge that is not asked is not looked for"
    with pytest.raises(RequestError, match=r"^judge\.model=\./judge\.gguf: there is no such file$"):
        probe(house, *words, "method=rlaif")


def test_a_seed_or_a_setting_changes_the_stages_that_hang_on_it(house):
    first, seed, beta = (keys(probe(house, "method=dpo", word)) for word in ("seed=0", "seed=1", "dpo.beta=0.3"))
    assert [name for name in first if first[name] == seed[name]] == ["tokenizer", "validate"]
    assert [name for name in first if first[name] != beta[name]] == ["dpo", "evaluate-dpo"]


def test_settings_that_decide_nothing_of_a_stage_change_no_key(house):
    first = keys(probe(house, "method=dpo"))
    more = ("compare.margin=0.5", "compare.reference=dpo", "tracking.register_model=false", "evaluate.batch_size=3")
    assert keys(probe(house, "method=dpo", *more)) == first


def test_a_stage_that_is_there_is_found_and_one_that_is_damaged_is_not(house):
    found = probe(house, "method=sft")
    assert not found.is_cached and len(found.missing) == 6
    name, key = found.stages[0].name, found.stages[0].key

    def compute(out, log):
        (out / "tokenizer.json").write_text("{}")
        return Outcome(metrics={"context": 128.0})

    artifact, _ = make(house, name, key, compute, settings={}, inputs={})
    again = probe(house, "method=sft")
    assert [stage.name for stage in again.missing] == ["validate", "base", "sft", "evaluate-sft", "evaluate-base"]
    (artifact.path / "tokenizer.json").write_text("damaged")
    assert len(probe(house, "method=sft").missing) == 6


def test_a_glance_looks_for_large_files_and_not_into_them(house, monkeypatch):
    name, key = probe(house, "method=sft").stages[0].name, probe(house, "method=sft").stages[0].key

    def compute(out, log):
        (out / "tokenizer.json").write_text("{}")
        return Outcome(metrics={"context": 128.0})

    artifact, _ = make(house, name, key, compute, settings={}, inputs={})
    glances = Prober(house, prober(house).data, ledger=lambda: None, is_glance=True)
    (artifact.path / "tokenizer.json").write_text("damaged")
    found = glances.probe(merge({}, ["method=sft"]))
    assert len(found.missing) == 6, "a small file is read"
    monkeypatch.setattr("tasks.workspace.artifacts.LARGE", len("damaged") - 1)
    found = glances.probe(merge({}, ["method=sft"]))
    assert (found.stages[0].artifact, len(found.missing)) == (artifact, 5) and len(probe(house, "method=sft").missing) == 6
    assert found.stages[0].compute == "tasks.base_model.tokenizer:make_tokenizer" and "data" in found.stages[0].inputs
    (artifact.path / "tokenizer.json").unlink()
    assert len(Prober(house, glances.data, ledger=lambda: None, is_glance=True).probe(merge({}, ["method=sft"])).missing) == 6


@pytest.mark.parametrize(
    ("role", "words", "says"),
    [
        ("demonstrations", ("method=sft",), "the dataset has no demonstrations, which SFT imitates"),
        ("questions", ("method=reft",), "the dataset has no questions, which PPO asks"),
        ("held_out", ("method=ppo",), "the dataset has no held_out, which models are evaluated on"),
    ],
)
def test_a_method_without_its_data_is_refused(house, role, words, says):
    (house.data / "world" / f"{role}.jsonl").unlink()
    with pytest.raises(DataError, match=says):
        probe(house, *words)


def test_a_reward_that_is_none_is_refused(house):
    with pytest.raises(RequestError, match="there is no module nothing_of_ours"):
        probe(house, "method=reft", "ppo.reward=python:nothing_of_ours:here")


def test_a_row_that_cannot_be_read_ends_the_walk_and_is_left_to_the_gate(house):
    (house.data / "world" / "held_out.jsonl").write_text('{"kind": "question"}\n')
    found = probe(house, "method=sft")
    assert not found.is_whole and not found.is_cached
    assert [stage.name for stage in found.stages] == ["tokenizer", "validate"]
