"""Loading: safetensors only, no code from the model's folder, every refusal one sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from models import tiny
from models.load import (
    ITS_OWN_FILES,
    check_base,
    context_length,
    device,
    dtype,
    has_bfloat16,
    hub_commit,
    load_model,
    load_tokenizer,
    prompt_text,
    quickest_dtype,
)
from models.tokenizers import world_tokenizer
from posttrain.errors import RequestError
from posttrain.prompts import PLAIN_CHAT_TEMPLATE, transcript
from posttrain.records import Message
from posttrain.settings.model import ModelSettings, TinySettings

DEFAULT = ModelSettings()
CPU = torch.device("cpu")
CONVERSATION = (Message(role="system", content="Be brief."), Message(role="user", content="2 + 2?"))
EVIL = """
from pathlib import Path
Path(__file__).with_name("it ran").touch()
raise SystemExit("it ran")
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model directory as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    tokenizer = world_tokenizer(["Tom has 12 apples. So 3\n"])
    torch.manual_seed(0)
    settings = TinySettings(layers=1, width=16, heads=2)
    tiny.network(settings, vocabulary=len(tokenizer), context=64, pad=0, eos=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "model"))


def refusal(function, *arguments, **named):
    with pytest.raises(RequestError) as caught:
        function(*arguments, **named)
    return str(caught.value)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def words(*special, vocabulary=("a", "b"), **named):
    """A word tokenizer with these special tokens."""
    names = [*special, *vocabulary]
    core = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token=names[0]))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, **named)


# --- what check_base lets through -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "gpt2", "tiny-but-mine", "some/thing.v2"])
def test_a_hub_id_is_left_to_the_hub(name):
    check_base(name)


def test_a_whole_directory_is_let_through(folder):
    check_base(str(folder))


def test_a_missing_directory_is_refused(tmp_path):
    gone = tmp_path / "gone"
    assert refusal(check_base, str(gone)) == (
        f"model.base={gone}: there is no such directory. Give tiny, a Hugging Face directory or a hub id"
    )
    assert refusal(check_base, "./gone") == (
        "model.base=./gone: there is no such directory. Give tiny, a Hugging Face directory or a hub id"
    )


def test_a_file_is_no_directory(folder):
    path = folder / "model.safetensors"
    assert "there is no such directory" in refusal(check_base, str(path))


def test_a_directory_without_a_configuration_is_refused(folder):
    (folder / "config.json").unlink()
    assert refusal(check_base, str(folder)) == (
        f"model.base={folder}: a Hugging Face model directory holds config.json, this one does not"
    )


def test_a_directory_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert refusal(check_base, str(folder)).startswith(
        f"model.base={folder}: it holds no weights, and only *.safetensors is read"
    )


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "model.pkl", "last.ckpt"])
def test_pickles_are_refused_by_name(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    assert refusal(check_base, str(folder)) == (
        f"model.base={folder}: its weights are pickles only ({name}), and only *.safetensors is read, "
        "because opening a pickle can run any code. "
        "Save the model again with save_pretrained(folder), in a place where you trust it"
    )


def test_pickles_beside_safetensors_are_let_be(folder):
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    check_base(str(folder))
    load_model(folder, DEFAULT, on=CPU)


def test_a_pickle_is_not_opened_even_when_asked_for_without_check_base(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    assert refusal(load_model, folder, DEFAULT, on=CPU).startswith(f"model.base={folder}: it cannot be loaded: ")


# --- code that lies beside a model is never run -----------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["llama", "zork"])
def test_code_in_the_models_folder_is_never_run(folder, model_type, monkeypatch, capsys):
    for name in ("configuration_evil", "modeling_evil", "tokenization_evil"):
        (folder / f"{name}.py").write_text(EVIL)
    edit(
        folder / "config.json",
        model_type=model_type,
        auto_map={"AutoConfig": "configuration_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"},
    )
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "tokenization_evil.Tokenizer"]})
    for load in (
        lambda: load_tokenizer(folder),
        lambda: context_length(folder, DEFAULT),
        lambda: load_model(folder, DEFAULT, on=CPU),
    ):
        try:
            load()
        except RequestError as error:
            assert str(error).startswith(f"model.base={folder}: ")
    assert not (folder / "it ran").exists()
    assert "y/N" not in capsys.readouterr().out, "nobody is asked whether to run it"


# --- broken directories: one sentence, no traceback -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"abc"),
        ("model.safetensors", b"\x00" * 400),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b'{"model_type": "zork"}'),
    ],
)
def test_a_broken_model_is_refused_in_one_line(folder, file, content):
    (folder / file).write_bytes(content)
    told = refusal(load_model, folder, DEFAULT, on=CPU)
    assert told.startswith(f"model.base={folder}: it cannot be loaded: ") and "\n" not in told


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"model_type": "zork"}'])
def test_a_broken_configuration_is_refused_in_one_line(folder, content):
    (folder / "config.json").write_bytes(content)
    told = refusal(context_length, folder, DEFAULT)
    assert told.startswith(f"model.base={folder}: its configuration cannot be loaded: ") and "\n" not in told


def test_a_hub_id_that_cannot_be_reached_is_refused_in_one_line():
    told = refusal(hub_commit, "nobody/nothing", revision=None)
    assert told.startswith("model.base=nobody/nothing: neither a directory here nor a model at the hub: ") and "\n" not in told


@pytest.mark.parametrize(
    ("file", "content"),
    [("tokenizer.json", b"{"), ("tokenizer.json", b"{}"), ("tokenizer_config.json", b"{"), ("config.json", b"[]")],
)
def test_a_broken_tokenizer_is_refused_in_one_line(folder, file, content):
    (folder / file).write_bytes(content)
    told = refusal(load_tokenizer, folder)
    assert told.startswith(f"model.base={folder}: its tokenizer cannot be loaded: ") and "\n" not in told


def test_a_directory_without_a_tokenizer_is_refused_with_what_to_do(folder):
    for file in folder.glob("tokenizer.json"):
        file.unlink()
    assert refusal(load_tokenizer, folder) == (
        f"model.base={folder}: its tokenizer cannot be loaded: the directory holds no tokenizer.json, tokenizer.model or "
        f"vocab.json. {ITS_OWN_FILES}"
    )


def test_weights_of_another_shape_are_refused(folder):
    edit(folder / "config.json", intermediate_size=48)
    assert refusal(load_model, folder, DEFAULT, on=CPU).startswith(f"model.base={folder}: it cannot be loaded: ")


def test_a_model_that_lacks_weights_is_refused_rather_than_filled_with_random_ones(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    lost = "model.layers.0.mlp.down_proj.weight"
    del weights[lost]
    save_file(weights, path, metadata={"format": "pt"})
    assert refusal(load_model, folder, DEFAULT, on=CPU) == (
        f"model.base={folder}: 1 of its weights are not in its files ({lost}), and would be random. "
        "Save the whole model with save_pretrained(folder)"
    )


def test_a_tokenizer_without_eos_is_refused(folder):
    tokenizer = words("<pad>", pad_token="<pad>")
    tokenizer.save_pretrained(folder)
    assert refusal(load_tokenizer, folder) == (
        f"model.base={folder}: its tokenizer has no EOS token, without which a response never ends"
    )


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_weights_come_back_as_they_were_and_in_evaluation_mode(folder):
    model = load_model(folder, DEFAULT, on=CPU)
    kept = load_file(folder / "model.safetensors")
    assert not model.training and model.device == CPU
    assert all(torch.equal(weight, kept[name]) for name, weight in model.named_parameters() if name in kept)


def test_dtypes(folder):
    assert load_model(folder, ModelSettings(dtype="bfloat16"), on=CPU).dtype == torch.bfloat16
    assert load_model(folder, ModelSettings(dtype="bfloat16"), on=CPU, train=True).dtype == torch.float32
    assert load_model(folder, ModelSettings(dtype="bfloat16", lora_rank=4), on=CPU, train=True).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("asked", "gpu", "bf16", "given"),
    [
        ("auto", False, True, torch.float32),
        ("auto", True, True, torch.bfloat16),
        ("auto", True, False, torch.float32),
        ("float32", True, True, torch.float32),
        ("bfloat16", False, False, torch.bfloat16),
    ],
)
def test_auto_is_bfloat16_on_a_gpu_that_has_it(monkeypatch, asked, gpu, bf16, given):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    assert dtype(ModelSettings(dtype=asked)) == given
    assert device().type == ("cuda" if gpu else "cpu")


@pytest.mark.parametrize(
    ("weights", "kind", "has", "given"),
    [
        (135_000_000, "cpu", True, torch.bfloat16),
        (135_000_000, "cpu", False, torch.float32),
        (49_999_999, "cpu", True, torch.float32),
        (150_000, "cuda", True, torch.bfloat16),
        (135_000_000, "cuda", False, torch.float32),
    ],
)
def test_bfloat16_is_the_quickest_where_instructions_and_size_say_so(monkeypatch, weights, kind, has, given):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has and kind == "cuda")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has and kind == "cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert quickest_dtype(weights, torch.device(kind)) == given
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert has_bfloat16(CPU)


@pytest.mark.parametrize(("asked", "given"), [(32, 32), (64, 64), (512, 64)])
def test_the_context_is_no_longer_than_the_models(folder, asked, given):
    assert context_length(folder, ModelSettings(context=asked)) == given


def test_a_tokenizer_pads_on_the_left_with_something_other_than_eos(folder):
    tokenizer = load_tokenizer(folder)
    assert tokenizer.padding_side == "left"
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<eos>")
    padded = tokenizer(["Tom", "Tom has"], padding=True)
    assert padded["input_ids"][0][0] == tokenizer.pad_token_id and padded["attention_mask"] == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("special", "named", "pad"),
    [
        (("<unk>", "</s>"), {"unk_token": "<unk>", "eos_token": "</s>"}, "<unk>"),
        (("<end>", "<pad>"), {"eos_token": "<end>", "pad_token": "<pad>"}, "<pad>"),
    ],
)
def test_a_spare_token_pads(folder, special, named, pad):
    words(*special, **named).save_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_token == pad
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert len(tokenizer) == len(special) + 2


# --- prompts ----------------------------------------------------------------------------------------------------------


@given(st.text(min_size=1))
def test_a_plain_prompt_stands_on_a_line_of_its_own(text):
    told = prompt_text(words("<eos>", eos_token="<eos>"), text)
    assert told == (text if text[-1].isspace() else text + "\n")


def test_messages_go_through_the_tokenizers_own_template():
    tokenizer = words("<eos>", eos_token="<eos>")
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}{% if add_generation_prompt %}[go]{% endif %}"
    )
    assert prompt_text(tokenizer, CONVERSATION) == "[system] Be brief. [user] 2 + 2? [go]"


@pytest.mark.parametrize(
    "of_a_tool",
    [
        "{{ m.content | upper }}",  # known to the template: nothing is changed
        "{{ raise_exception('no such role') }}",
        "",  # left out in silence
    ],
)
def test_what_a_tool_said_is_never_lost(of_a_tool):
    tokenizer = words("<eos>", eos_token="<eos>")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'tool' %}" + of_a_tool + "{% else %}[{{ m.role }}] {{ m.content }} {% endif %}"
        "{% endfor %}"
    )
    said = "12 C" if "upper" in of_a_tool else "<tool_response>\n12 C\n</tool_response>"
    told = prompt_text(tokenizer, (Message(role="user", content="Warm?"), Message(role="tool", content="12 C")))
    assert told == f"[user] Warm? {'' if 'upper' in of_a_tool else '[user] '}{said}{'' if 'upper' in of_a_tool else ' '}"


def test_a_tokenizer_without_a_template_gets_the_plain_transcript(folder):
    words("<eos>", "<pad>", eos_token="<eos>").save_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.chat_template == PLAIN_CHAT_TEMPLATE
    assert prompt_text(tokenizer, CONVERSATION) == transcript(CONVERSATION)


@pytest.mark.parametrize("adds_bos", [True, False])
@pytest.mark.parametrize("writes_bos", [True, False])
def test_bos_never_stands_twice(adds_bos, writes_bos):
    tokenizer = words("<s>", "</s>", bos_token="<s>", eos_token="</s>")
    if adds_bos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.chat_template = ("{{ bos_token }}" if writes_bos else "") + "{% for m in messages %}{{ m.content }}{% endfor %}"
    ids = tokenizer(prompt_text(tokenizer, (Message(role="user", content="a b"),)))["input_ids"]
    assert ids == [0] * (adds_bos or writes_bos) + [2, 3]
