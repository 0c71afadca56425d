"""Which tokens end a response, which of them is taught, and that plain transformers ends where we end."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from models.endings import end_ids, savable, taught_end
from models.generate import generate
from models.load import load_model, load_tokenizer, prompt_text
from models.shipped import notes_on
from models.shots import text_of
from posttrain.errors import RequestError
from posttrain.prompts import PLAIN_CHAT_TEMPLATE
from posttrain.records import Demonstration, Message
from posttrain.settings.model import ModelSettings
from tasks.workspace.weights import save
from tests.models.shipped import CHATML, ENDS, LLAMA_2, byte_level, llama_3, sentence_piece, ship, ship_with_ends

CPU = torch.device("cpu")
ASKED = (Message(role="user", content="a b"),)
CHAT = {"template": CHATML, "eos_token": "<|endoftext|>"}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|stop|>")
BEGINNINGS = "{% for m in messages %}{{ bos_token }}{{ m.content }}{% endfor %}{{ bos_token }}"
LONGER = CHATML.replace("<|im_end|>", "<|im_end|>2")


def tokens(reader):
    return reader.convert_ids_to_tokens(list(end_ids(reader)))


def taught(reader, prompt):
    return reader.convert_ids_to_tokens(taught_end(reader, prompt, prompt_text(reader, prompt)))


# --- which tokens end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokenizer", "turn_end"),
    [
        (byte_level(*SPECIAL, **CHAT), "<|im_end|>"),
        (llama_3(), "<|eot_id|>"),
        (sentence_piece(template=LLAMA_2), "</s>"),
        (byte_level(*SPECIAL, template=PLAIN_CHAT_TEMPLATE, eos_token="<|endoftext|>"), "<|endoftext|>"),
        # a turn that only the next one's beginning ends, a template that answers nobody
        (byte_level(*SPECIAL, template=BEGINNINGS, bos_token="<|im_start|>", eos_token="<|endoftext|>"), "<|endoftext|>"),
        (byte_level(*SPECIAL, template="{{ raise_exception('no') }}", eos_token="<|endoftext|>"), "<|endoftext|>"),
        (byte_level(*SPECIAL, "<|im_end|>2", template=LONGER, eos_token="<|endoftext|>"), "<|im_end|>2"),
    ],
)  # fmt: skip
def test_the_templates_own_end_ends_and_is_taught_behind_messages(tmp_path, tokenizer, turn_end):
    reader = load_tokenizer(ship(tmp_path, tokenizer))
    assert set(tokens(reader)) == {reader.eos_token, turn_end}
    if "raise_exception" not in reader.chat_template:
        assert taught(reader, ASKED) == turn_end
    assert taught(reader, "a b") == reader.eos_token, "a plain prompt ends as a text does"


def test_a_plain_prompt_that_goes_through_the_template_ends_as_its_turns(tmp_path):
    reader = load_tokenizer(ship(tmp_path, byte_level(*SPECIAL, **CHAT)))
    assert taught_end(reader, "a b", prompt_text(reader, ASKED)) == reader.convert_tokens_to_ids("<|im_end|>")
    assert taught_end(reader, "a b", "c\nd<|endoftext|>a b\n") == reader.eos_token_id, "behind examples"


@pytest.mark.parametrize("listed", [[259, 257], 259, [259, 999_999]])
def test_what_the_generation_config_lists_ends(tmp_path, listed):
    tokenizer = byte_level("<|endoftext|>", "<|a|>", "<|stop|>", eos_token="<|endoftext|>")
    stop = tokenizer.convert_tokens_to_ids("<|stop|>")
    assert stop == 259
    reader = load_tokenizer(ship(tmp_path, tokenizer, eos_token_id=listed))
    assert tokens(reader) == ["<|endoftext|>", "<|stop|>"]


def test_an_ordinary_token_ends_where_the_generation_config_says_so_itself(tmp_path):
    tokenizer = byte_level("<|endoftext|>", eos_token="<|endoftext|>")
    listed = [tokenizer.eos_token_id, 5]
    assert end_ids(load_tokenizer(ship(tmp_path / "a", tokenizer, eos_token_id=listed))) == (5, tokenizer.eos_token_id)
    made = ship(tmp_path / "b", tokenizer, eos_token_id=listed, _from_model_config=True)
    assert end_ids(load_tokenizer(made)) == (tokenizer.eos_token_id,), "a default of transformers is any word"


@pytest.mark.parametrize(("number", "ends"), [("stop", ["<|endoftext|>", "<|stop|>"]), (2, ["<|endoftext|>"])])
def test_config_json_counts_where_it_names_a_special_token(tmp_path, number, ends):
    tokenizer = byte_level("<|endoftext|>", "<|stop|>", eos_token="<|endoftext|>")
    base = ship(tmp_path, tokenizer)
    file = base / "config.json"
    listed = [tokenizer.convert_tokens_to_ids("<|stop|>"), tokenizer.eos_token_id] if number == "stop" else number
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": listed}))
    assert tokens(load_tokenizer(base)) == ends


def test_it_is_kept_where_the_tokenizer_is_saved_without_the_model(tmp_path):
    tokenizer = llama_3()
    listed = tokenizer.convert_tokens_to_ids(["<|end|>", "<|reserved_special_token_0|>"])
    reader = load_tokenizer(ship(tmp_path / "base", tokenizer, eos_token_id=listed))
    reader.save_pretrained(tmp_path / "tokenizer")
    again = load_tokenizer(tmp_path / "tokenizer")
    assert end_ids(again) == end_ids(reader) and len(end_ids(reader)) == 3
    assert taught(again, ASKED) == "<|eot_id|>"


def test_examples_before_a_prompt_end_as_its_own_response_would(tmp_path):
    reader = load_tokenizer(ship(tmp_path, byte_level(*SPECIAL, **CHAT)))
    shots = [Demonstration(id="1", prompt="a", completion="b"), Demonstration(id="2", prompt=ASKED, completion="c")]
    told = text_of(reader, shots)
    assert told.startswith("a\nb<|endoftext|>") and told.endswith("assistant\nc<|im_end|>")


# --- where responses end ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_ends(tmp_path_factory):
    """A base that ends responses with each of three tokens before long."""
    return ship_with_ends(tmp_path_factory.mktemp("ends"))


PROMPTS = [f"{a}{b}\n" for a in "abcdef" for b in "ghijkl"]


def theirs(folder, prompts=PROMPTS):
    """What plain transformers generates with the folder's own tokenizer and generation config."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    found = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        told = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        found.append(tuple(told[0, ids.shape[1] :].tolist()))
    return found


def test_responses_end_where_plain_transformers_ends_them(three_ends, tmp_path):
    reader, model = load_tokenizer(three_ends), load_model(three_ends, ModelSettings(), on=CPU)
    how = {"samples": 1, "temperature": 0.0, "max_new_tokens": 24, "context": 96, "batch_size": 8, "seed": 0}
    told = [response for (response,) in generate(model, reader, PROMPTS, **how)]
    wanted = theirs(three_ends)
    assert [response.ids for response in told] == wanted
    last = [ids[-1] for ids in wanted]
    assert [response.is_finished for response in told] == [token in ENDS for token in last]
    assert len({*last} & {*ENDS}) >= 2 and not {*last} <= {*ENDS}, "several of them end responses, and some are cut off"
    assert not any(mark in response.text for response in told for mark in ("<|end|>", "<|eot_id|>"))

    # a saved model ends there as well, in plain transformers
    save(model, reader, tmp_path / "saved")
    assert theirs(tmp_path / "saved") == wanted
    kept = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert (kept["eos_token_id"], kept["pad_token_id"]) == (ENDS, reader.pad_token_id)


# --- generation configs -----------------------------------------------------------------------------------------------

LLAMA_2_CHAT = {"temperature": 0.6, "top_p": 0.9, "max_length": 4096, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def test_sampling_parameters_without_do_sample_are_mended_and_told(tmp_path):
    base = ship(tmp_path / "base", sentence_piece(), **LLAMA_2_CHAT)
    raw = AutoModelForCausalLM.from_pretrained(base)
    raw.generation_config.eos_token_id = [2]
    with pytest.raises(ValueError, match="do_sample"):
        raw.save_pretrained(tmp_path / "refused")
    assert notes_on(base)[-1] == (
        f"model.base={base}: in the generation config of models made from it, do_sample=true is set, without which transformers "
        "saves none of its sampling parameters"
    )
    reader, model = load_tokenizer(base), load_model(base, ModelSettings(), on=CPU)
    save(model, reader, tmp_path / "saved")
    told = GenerationConfig.from_pretrained(tmp_path / "saved")
    assert (told.do_sample, told.temperature, told.top_p, told.eos_token_id) == (True, 0.6, 0.9, 2)
    assert notes_on(tmp_path / "saved") == []
    ids = torch.tensor([[1, 9, 9]])
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "saved")(ids).logits, model(ids).logits)


def test_what_cannot_be_mended_leaves_the_special_tokens():
    broken = GenerationConfig(early_stopping=True, num_beams=1, eos_token_id=[2, 0], bos_token_id=1)
    told, change = savable(broken)
    assert (told.eos_token_id, told.bos_token_id, told.early_stopping) == ([2, 0], 1, None)
    assert change.startswith("its special tokens alone are kept, as transformers refuses to save the rest (`early_stopping`")
    told.validate(strict=True)


@pytest.mark.parametrize("broken", [{"num_return_sequences": 4}, {"max_new_tokens": -1}])
def test_a_config_beside_which_transformers_loads_no_model_is_refused(tmp_path, broken):
    base = ship(tmp_path, llama_3(), **broken)
    with pytest.raises(
        RequestError, match=r"transformers refuses its generation_config\.json: .*\. Mend that file, or delete it$"
    ):
        notes_on(base)


def test_a_config_that_can_be_saved_is_left_alone():
    whole = GenerationConfig(do_sample=True, temperature=0.6, eos_token_id=2)
    assert savable(whole) == (whole, "")
