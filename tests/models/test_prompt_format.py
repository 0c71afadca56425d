"""How a plain-text prompt is read: decided once, kept in the tokenizer's files, and the same for every caller."""

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.load import CLOCK, check_template, load_tokenizer, prompt_text
from models.prompt_format import KEY, PromptFormat, as_shipped, decide_format, format_of, has_own_template
from models.shots import SHOTS, prompt_after, save_shots
from posttrain.errors import RequestError
from posttrain.prompts import PLAIN_CHAT_TEMPLATE
from posttrain.records import Demonstration, Message

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>\n{{ m['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHAT
IN_TURN = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}{% endfor %}"
) + CHAT


def reader(template=CHAT, *, adds_bos=False):
    core = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3, "hi": 4}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", padding_side="left"
    )
    if adds_bos:
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made.chat_template = template
    return made


def decided(template=CHAT, **how):
    made = reader(template)
    decide_format(made, name="model.base=x", **how)
    return made


def refusal(function, *arguments, **named):
    with pytest.raises(RequestError) as caught:
        function(*arguments, **named)
    return str(caught.value)


# --- the decision -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "asked", "is_chat"),
    [
        (CHAT, "auto", True),
        (CHAT, "chat", True),
        (CHAT, "plain", False),
        (PLAIN_CHAT_TEMPLATE, "auto", False),
        (PLAIN_CHAT_TEMPLATE, "plain", False),
        (None, "auto", False),
    ],
)
def test_auto_goes_by_the_template_that_a_tokenizer_brings(template, asked, is_chat):
    made = reader(template)
    assert has_own_template(made) is (template == CHAT)
    assert decide_format(made, prompt_format=asked, name="x") == format_of(made) == PromptFormat(is_chat)


def test_without_a_decision_text_is_plain():
    assert format_of(reader()) == PromptFormat() and prompt_text(reader(), "hi there") == "hi there\n"


def test_a_template_that_is_not_there_is_refused():
    for template in (None, PLAIN_CHAT_TEMPLATE):
        assert refusal(decide_format, reader(template), prompt_format="chat", name="model.base=x") == (
            "model.prompt_format=chat: model.base=x has no chat template of its own. Take a base that has one, or "
            "model.prompt_format=auto, which takes plain text where there is none"
        )
    told = refusal(decide_format, reader(None), system="Be brief.", name="model.base=x")
    assert told.startswith("model.system is a message of the chat template, which model.base=x does not have. Leave")
    told = refusal(decide_format, reader(), prompt_format="plain", system="Be brief.", name="model.base=x")
    assert told.startswith("model.system is a message of the chat template, which model.prompt_format=plain does not use. Leave")


def test_the_decision_survives_saving_and_loading_twice_and_training_saves_it_with_the_model(tmp_path):
    decided(system="Be brief.").save_pretrained(tmp_path / "one")
    load_tokenizer(tmp_path / "one").save_pretrained(tmp_path / "two")
    kept = json.loads((tmp_path / "two" / "tokenizer_config.json").read_text())
    assert kept[KEY] == {"chat": True, "system": "Be brief."}
    assert prompt_text(load_tokenizer(tmp_path / "two"), "hi") == "<system>\nBe brief.</s>\n<user>\nhi</s>\n<assistant>\n"
    assert KEY not in vars(AutoTokenizer.from_pretrained(tmp_path / "two")), "plain transformers reads it as any other entry"


def test_a_model_that_was_trained_here_stays_with_what_it_was_trained_with():
    plain, chat = decided(prompt_format="plain"), decided(system="Be brief.")
    assert decide_format(plain, name="x") == PromptFormat(False)
    assert decide_format(chat, name="x") == PromptFormat(True, "Be brief.")
    assert decide_format(chat, system="Be long.", name="x") == PromptFormat(True, "Be long.")
    assert decide_format(plain, prompt_format="chat", name="x") == PromptFormat(True)
    assert format_of(as_shipped(decided(prompt_format="plain"))) == PromptFormat(False)


def test_a_model_of_others_is_read_through_its_own_template():
    assert format_of(as_shipped(reader())) == PromptFormat(True)
    assert format_of(as_shipped(reader(None))) == PromptFormat(False)


# --- the text -----------------------------------------------------------------------------------------------------------------


def test_plain_text_is_one_user_message():
    made = decided()
    assert prompt_text(made, "hi there") == "<user>\nhi there</s>\n<assistant>\n"
    assert prompt_text(made, "hi there") == prompt_text(made, (Message(role="user", content="hi there"),))
    assert prompt_text(decided(prompt_format="plain"), "hi there") == "hi there\n"


def test_messages_bring_their_own_system_message():
    asked = (Message(role="user", content="hi"),)
    assert prompt_text(decided(system="Be brief."), asked) == "<user>\nhi</s>\n<assistant>\n"


@pytest.mark.parametrize("adds_bos", [True, False])
def test_bos_never_stands_twice(adds_bos):
    made = reader("{{ bos_token }}" + CHAT, adds_bos=adds_bos)
    decide_format(made, name="x")
    assert made(prompt_text(made, "hi"))["input_ids"].count(0) == 1


def test_a_date_is_the_same_on_every_day():
    made = decided("{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d') }} " + CHAT)
    assert CLOCK in made.chat_template and prompt_text(made, "hi").startswith("26 Jul 2024 2024-07-26 <user>\n")


def test_demonstrations_are_earlier_turns(tmp_path):
    shots = [Demonstration(id="a", prompt="1 + 1", completion="2"), Demonstration(id="b", prompt="2 + 2", completion="4")]
    told = prompt_after(decided(IN_TURN), shots, "3 + 3")
    assert told == (
        "<user>\n1 + 1</s>\n<assistant>\n2</s>\n<user>\n2 + 2</s>\n<assistant>\n4</s>\n<user>\n3 + 3</s>\n<assistant>\n"
    )
    told = prompt_after(decided(system="Be brief."), shots[:1], "3 + 3")
    assert told == "<system>\nBe brief.</s>\n<user>\n1 + 1</s>\n<assistant>\n2</s>\n<user>\n3 + 3</s>\n<assistant>\n"
    save_shots(shots, decided(), tmp_path)
    assert list(json.loads((tmp_path / SHOTS).read_text())) == ["shots"], "no text stands before a message"


# --- templates that fail ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "system", "told"),
    [
        (NO_SYSTEM, "Be brief.", "refuses a prompt with the roles system, user: System role not supported"),
        (IN_TURN, "Be brief.", "refuses a prompt with the roles system, user: roles must alternate user/assistant"),
        ("{{ raise_exception('never') }}", None, "refuses a prompt with the roles user: never"),
        ("{{ messages[1]['content'] + 'x' }}", None, "refuses a prompt with the roles user: "),
        ("{% for m in messages %}{{ m['content'] + 1 }}{% endfor %}", None, "refuses a prompt with the roles user: "),
        ("{% if %}", None, "refuses a prompt with the roles user: "),
        ("<assistant>", None, "leaves out a user message"),
        ("{{ messages[-1]['content'] }}", "Be brief.", "leaves out the system message (model.system)"),
    ],
)
def test_a_template_that_fails_on_a_question_is_refused_in_one_sentence(template, system, told):
    refused = refusal(check_template, decided(template, system=system))
    assert refused.startswith(f"the model's chat template {told}") and "\n" not in refused
    assert refused.endswith(". model.prompt_format=plain gives plain-text prompts as they are")


def test_a_template_that_is_not_used_may_fail():
    check_template(decided("{{ raise_exception('never') }}", prompt_format="plain"))


def test_messages_that_a_template_refuses_have_no_such_remedy():
    talk = (Message(role="system", content="Be brief."), Message(role="user", content="hi"))
    assert refusal(prompt_text, decided(NO_SYSTEM), talk) == (
        "the model's chat template refuses a prompt with the roles system, user: System role not supported"
    )
