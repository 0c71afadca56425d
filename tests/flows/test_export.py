"""A version is exported and answers as it was evaluated, on a real store; what cannot be leaves nothing."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows.export import export
from flows.use_requests import ExportRequest, export_request
from posttrain.errors import DataError, RequestError
from posttrain.promotion.moves import PREVIOUS
from posttrain.settings.config import Config, merge
from posttrain.settings.evaluation import TrackingSettings
from tasks.exporting import export as files
from tasks.exporting.folder import RECORD
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import digest_of_files
from tasks.workspace.jsonl import write_rows
from tasks.workspace.paths import Paths
from tests.flows.real_versions import real_version
from tests.tasks.exporting.bpe_models import TEXTS, folder_of, reader, smollm_words
from tests.tasks.promotion.versions import NAME

CONTEXT = 96


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def house(tmp_path_factory, tiny_world):
    """Three versions: a Llama with byte-level BPE and random weights, the world's base, and that without a generation config."""
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        ledger = Ledger.open(Paths(folder / "repo"), TrackingSettings())
        bpe = folder_of(folder / "model", "llama", reader(smollm_words()))
        (folder / "data").mkdir()
        rows = [{"id": f"q{n}", "kind": "question", "prompt": f"{TEXTS[n % 2]}{n}?", "answers": [str(n)]} for n in range(12)]
        write_rows(folder / "data" / "held_out.jsonl", rows)
        real_version(ledger, bpe, folder / "data", context=CONTEXT)
        real_version(ledger, tiny_world.base / "model", tiny_world.data, context=CONTEXT, key="b")
        bare = folder / "bare"
        shutil.copytree(tiny_world.base / "model", bare)
        (bare / "generation_config.json").unlink(missing_ok=True)
        real_version(ledger, bare, tiny_world.data, context=CONTEXT, key="c")
    ledger.client.set_registered_model_alias(NAME, PREVIOUS, "2")
    return ledger


def request(tmp_path, **how):
    return ExportRequest(
        **{"version": "1", "form": "hf", "precision": "f16", "target": tmp_path / "out", "is_forced": False, **how}
    )


def test_a_directory_answers_to_the_letter_and_loads_in_plain_transformers(house, tmp_path, capsys):
    model = house.client.get_model_version_download_uri(NAME, "2")
    before = digest_of_files(Path(model))
    (tmp_path / "out").mkdir()  # an empty folder is a place like any other
    said = []
    export(house.paths, Config(), request(tmp_path, version="previous"), said.append)
    out = capsys.readouterr().out
    assert out.startswith(f"{NAME} version 2: hf, ") and out.endswith(f"{tmp_path / 'out'}\n")
    assert "parity: it answers all 12 held-out questions to the letter as the evaluated model did; accuracy +0.0 points [" in out
    assert said == [f"{NAME} version 2: it answers 12 held-out questions, as in its evaluation"]

    found = tmp_path / "out"
    record = json.loads((found / RECORD).read_text())
    assert record["parity"]["is_exact"] and record["parity"]["questions"] == 12 and record["version"] == "2"
    card = (found / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n") and "# the card" in card
    assert "## This export" in card and "Parity: it answers all 12 held-out questions to the letter" in card
    assert (found / "generation_config.json").is_file()
    AutoModelForCausalLM.from_pretrained(found)
    AutoTokenizer.from_pretrained(found)
    # the version itself stays as it was registered
    assert digest_of_files(Path(model)) == before


def test_a_generation_config_that_lacks_is_made(house, tmp_path):
    export(house.paths, Config(), request(tmp_path, version="3"), print)
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] is not None


def test_a_gguf_file_answers_to_the_letter_in_float32(house, tmp_path, capsys):
    export(house.paths, Config(), request(tmp_path, form="gguf", precision="f32"), print)
    out = capsys.readouterr().out
    assert "parity: it answers all 12 held-out questions to the letter" in out, out
    file = tmp_path / "out" / f"{NAME}-1-f32.gguf"
    assert out.endswith(f"{file}\n") and file.is_file()
    assert sorted(one.name for one in file.parent.iterdir()) == ["README.md", RECORD, file.name]
    card = (file.parent / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: gguf\n") and f"llama-cli -m {file.name}" in card


def test_a_file_of_fewer_bits_says_by_how_much_it_answers_otherwise(house, tmp_path, capsys):
    config = merge({}, ["evaluate.max_questions=10"])
    export(house.paths, config, request(tmp_path, form="gguf", precision="q8_0"), print)
    out = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["parity"]["questions"] == 10 and not record["parity"]["is_exact"]
    assert record["parity"]["same_greedy"]["estimate"] < 1
    assert " % [" in out and "of its answers to 10 held-out questions are those of the evaluated model to the letter" in out


def test_a_fault_of_the_export_shows_in_its_parity(house, tmp_path, monkeypatch, capsys):
    """What is written wrongly, as query rows in another order, is measured, and told."""
    import tasks.exporting.gguf_file as gguf_file

    wrong = {"llama": gguf_file.Architecture("llama", gguf_file.ARCHITECTURES["llama"].tensors, is_rotated_apart=False)}
    monkeypatch.setattr(gguf_file, "ARCHITECTURES", wrong)
    export(house.paths, Config(), request(tmp_path, form="gguf", precision="f32"), print)
    assert not json.loads((tmp_path / "out" / RECORD).read_text())["parity"]["is_exact"]


def test_a_version_without_an_evaluation_is_exported_and_says_so(house, tmp_path, capsys, monkeypatch):
    def none(*_, **__):
        raise DataError("nothing is left")

    monkeypatch.setattr("flows.export.evaluation_of", none)
    export(house.paths, Config(), request(tmp_path), print)
    assert "parity: not tested, since there is nothing to compare with: nothing is left" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / RECORD).read_text())["parity"] is None


def test_what_gguf_does_not_hold_is_refused_before_anything_is_written(house, tmp_path):
    with pytest.raises(RequestError) as refused:
        export(house.paths, Config(), request(tmp_path, form="gguf", version="2"), print)
    assert str(refused.value).startswith(f"{NAME} version 2 cannot be exported as GGUF: its tokenizer is WordLevel")
    assert str(refused.value).endswith("FORMAT=hf can export it")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_export_leaves_nothing(house, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "evaluate_version", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(house.paths, Config(), request(tmp_path), print)
    assert [one.name for one in tmp_path.iterdir() if "out" in one.name] == []


def test_there_must_be_such_a_version(house, tmp_path):
    with pytest.raises(RequestError, match="VERSION must be the number of a version of posttrain-world, champion, challenger"):
        export(house.paths, Config(), request(tmp_path, version="best"), print)
    with pytest.raises(RequestError, match="there is no models:/posttrain-world/7"):
        export(house.paths, Config(), request(tmp_path, version="7"), print)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"to": "x"}, "export needs VERSION: make export"),
        ({"version": "1"}, "export needs TO: make export"),
        ({"version": "1", "to": "x", "format": "onnx"}, "FORMAT must be hf or gguf, got onnx"),
        ({"version": "1", "to": "x", "type": "f16"}, "TYPE is of FORMAT=gguf"),
        ({"version": "1", "to": "x", "format": "gguf", "type": "q4"}, "TYPE must be f32, f16, bf16, q8_0, got q4"),
        ({"version": "1", "to": "x", "force": "yes"}, "FORCE must be 1 (replace the export that lies there) or 0, got yes"),
        ({"version": "1", "to": "data/x"}, "TO must lie outside "),
        ({"version": "1", "to": ".posttrain"}, "TO must lie outside "),
    ],
)
def test_words_that_are_wrong_are_refused(tmp_path, given, told):
    with pytest.raises(RequestError) as refused:
        export_request(Paths(tmp_path), given)
    assert str(refused.value).startswith(told)


def test_what_words_ask_for(tmp_path):
    found = export_request(Paths(tmp_path), {"version": "3", "to": "x", "format": "gguf", "force": "1"})
    assert found == ExportRequest("3", "gguf", "f16", tmp_path / "x", True)
