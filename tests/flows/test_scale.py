"""`make scale`: lines that follow from the settings, the page that holds what the code prints, and refusals."""

from pathlib import Path

import pytest

from flows import paper
from flows.__main__ import main
from flows.paper import lines_of
from posttrain.errors import RequestError
from posttrain.scale.rates import GB, Device
from tasks.workspace.paths import Paths

ROOT = Path(__file__).resolve().parents[2]
NO_MODEL = (
    "scale needs MODEL, a number of weights or a base that exists, and the tiny base is made by a run: "
    "make scale MODEL=7e9 METHOD=reft GPUS=8"
)


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("# nothing differs from the defaults\n")
    return Paths(tmp_path)


def lines(paths, *settings, model="7e9", gpus=8, gigabytes=80):
    return lines_of(paths, model, list(settings), gpus=gpus, device=Device(memory=gigabytes * GB))


def test_the_page_holds_what_the_code_prints():
    told = paper.paper()
    assert told in (ROOT / "docs" / "scale.md").read_text(encoding="utf-8"), (
        f"docs/scale.md must hold what `flows.paper.paper()` returns:\n{told}"
    )


def test_a_method_part_by_part(paths):
    told = lines(paths, "method=reft")
    assert told[0] == "ReFT on 7,000,000,000 weights, 8 GPUs of 80 GB that share the weights, rows of 1,024 tokens"
    # 16 bytes of 7e9 weights over 8 GPUs, and the reference's 4
    assert told[1] == "  trained network           14.0 GB  weights 3.5, gradients 3.5, Adam 7.0"
    assert told[2] == "  reference                  3.5 GB"
    assert told[3].startswith("  training adds ") and told[4].startswith("  sampling adds ")
    assert "gathered policy 28.0" in told[4]
    assert "a weight sync hands 28 GB to a rollout engine" in told[7]
    assert len(told) == 10
    assert len(lines(paths, "method=sft")) == 5, "SFT samples nothing"


def test_settings_decide(paths):
    whole, adapters = lines(paths, "method=reft"), lines(paths, "method=reft", "model.lora_rank=16")
    assert "frozen 1.8" in adapters[1] and not any("reference" in line for line in adapters)
    assert whole != adapters
    own = lines(paths, "method=reft", "ppo.critic=separate")
    assert own[3] == "  critic                    14.0 GB"
    long = lines(paths, "method=reft", "model.context=4096")
    assert "rows of 4,096 tokens" in long[0]
    assert "it does not fit, most of all for: " in "".join(lines(paths, "method=reft", gpus=1))
    assert ": it fits" in "".join(lines(paths, "method=reft", gpus=1, gigabytes=1_000))
    elsewhere = lines(paths, "method=reft", "ppo.engine=vllm", "ppo.engine_url=http://127.0.0.1:8000")
    assert "cache" not in elsewhere[4] and "vLLM" not in "".join(elsewhere)
    within = lines(paths, "method=reft", "ppo.engine=vllm", "ppo.engine_memory=0.5")
    assert within[3] == "  vLLM                      40.0 GB"


def test_a_base_by_its_own_configuration(paths, tiny_world):
    folder = str(tiny_world.base / "model")
    told = lines(paths, "method=sft", model=folder, gpus=1)
    assert told[0].startswith(f"SFT on {folder}, one GPU of 80 GB")
    assert told == lines(paths, "method=sft", f"model.base={folder}", model="", gpus=1)
    table = lines(paths, model=folder, gpus=2)
    assert table[0] == "| GB of each GPU | 2 GPUs | fits from |" and len(table) == 2 + 2 * 8 + 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["METHOD=reft"], NO_MODEL),
        (["MODEL=tiny", "METHOD=reft"], NO_MODEL),
        (["MODEL=7e9", "GPUS=0"], "GPUS must be a whole number from 1 to 100,000, got 0"),
        (["MODEL=7e9", "GB=much"], "GB must be a whole number from 1 to 100,000, got much"),
        (["MODEL=7e9", "METHOD=dop"], "there is no method dop; did you mean dpo?; methods are "),
        (["MODEL=7e9", "ppo.kl_coeff=1"], "there is no setting ppo.kl_coeff; did you mean ppo.kl_coef?"),
    ],
)
def test_refusals(paths, capsys, words, sentence):
    assert main(["scale", *words]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"request: {sentence}") and said.out == ""
    assert list(paths.root.iterdir()) == [paths.root / "params.yaml"], "nothing was written"


def test_what_is_no_base_is_told(paths):
    with pytest.raises(RequestError, match=r"model\.base=\./nowhere"):
        lines(paths, "method=sft", model="./nowhere")


def test_the_verb_prints(paths, capsys):
    assert main(["scale", "MODEL=7B", "METHOD=SFT", "GPUS=64", "GB=40"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("SFT on 7,000,000,000 weights, 64 GPUs of 40 GB that share the weights, rows of 1,024 tokens\n")
