"""How prompts are read is refused before anything runs where it cannot be, decided by the stage `tokenizer`, and said."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flows.prompts import KEY, _check, check_prompts, is_chat, prompts_line, prompts_tag, system_of
from models import prompt_format, tiny
from models.load import load_tokenizer, prompt_text
from models.tokenizers import world_tokenizer
from posttrain.errors import RequestError
from posttrain.promotion.card import Origin
from posttrain.settings.config import merge
from posttrain.settings.model import TinySettings
from tasks.base_model import tokenizer as subject
from tasks.workspace.paths import Paths

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A model directory; `base(template)` gives its tokenizer a chat template."""
    monkeypatch.chdir(tmp_path)
    _check.cache_clear()
    reader = world_tokenizer(["Tom has 12 apples. How many?\n"])
    torch.manual_seed(0)
    settings = TinySettings(layers=1, width=16, heads=2)
    tiny.network(settings, vocabulary=len(reader), context=64, pad=0, eos=1).save_pretrained(tmp_path / "base")

    def with_template(template=None):
        if template:
            reader.chat_template = template
        reader.save_pretrained(tmp_path / "base")
        return "./base"

    return with_template


def settings(base, *words):
    return merge({}, [f"model.base={base}", *words]).model


def made(tmp_path, model):
    """Return a run whose stage `tokenizer` is there."""
    out = tmp_path / "stage"
    out.mkdir()
    outcome = subject.make_tokenizer(out, lambda *_: None, data=Path(), dataset="mine", model=model, settings=TinySettings())
    artifact = SimpleNamespace(path=out, metrics=outcome.metrics)
    return SimpleNamespace(
        config=SimpleNamespace(model=model), has_run=lambda name: name == "tokenizer", artifact=lambda name: artifact
    )


def test_the_stage_decides_and_everybody_reads_it(tmp_path, base):
    run = made(tmp_path, settings(base(CHAT), "model.system=Be brief."))
    reader = load_tokenizer(run.artifact("tokenizer").path / "tokenizer")
    assert prompt_text(reader, "How many?") == "<system>Be brief.<user>How many?<assistant>"
    assert is_chat(run) and system_of(run) == "Be brief." and prompt_format.KEY == KEY
    assert prompts_line(run) == "prompts: chat template of the base, with the system message 'Be brief.'"
    assert run.artifact("tokenizer").metrics == {"context": 64, "chat": 1.0}


@pytest.mark.parametrize(
    ("template", "words", "line"),
    [
        (CHAT, (), "prompts: chat template of the base"),
        (CHAT, ("model.prompt_format=plain",), "prompts: plain text (model.prompt_format=plain)"),
        (None, (), "prompts: plain text"),
    ],
)
def test_the_decision_is_said_in_a_line(tmp_path, base, template, words, line):
    run = made(tmp_path, settings(base(template), *words))
    assert prompts_line(run) == line and is_chat(run) is line.startswith("prompts: chat")
    assert prompts_tag(run) == {"posttrain.prompts": line.split()[1]}


def test_the_tiny_base_knows_one_way():
    run = SimpleNamespace(config=merge({}), has_run=lambda name: False)
    assert prompts_line(run) == "" and not is_chat(run)


@pytest.mark.parametrize("word", ["model.prompt_format=chat", "model.system=Be brief."])
def test_the_tiny_base_has_no_template_of_its_own(tmp_path, word):
    told = (
        f"{word.removesuffix('=Be brief.')}: the tiny base has no chat template of its own. Name a base that has one (model.base)"
    )
    with pytest.raises(RequestError) as caught:
        check_prompts(Paths(tmp_path), merge({}, [word]).model)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("template", "words", "told"),
    [
        (None, ("model.prompt_format=chat",), "model.prompt_format=chat: model.base=./base has no chat template of its own"),
        (None, ("model.system=Be brief.",), "model.system is a message of the chat template, which model.base=./base does not"),
        ("{{ raise_exception('no') }}", ("model.prompt_format=chat",), "the model's chat template refuses a prompt with the"),
        (
            "{{ messages[-1]['content'] }}",
            ("model.system=Be brief.",),
            "the model's chat template leaves out the system message (model.system)",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(tmp_path, base, template, words, told):
    with pytest.raises(RequestError) as caught:
        check_prompts(Paths(tmp_path), settings(base(template), *words))
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


def test_by_default_no_tokenizer_is_asked_and_a_template_that_fails_is_refused_by_the_stage(tmp_path, base):
    model = settings(base("{{ raise_exception('no') }}"))
    check_prompts(Paths(tmp_path), model)
    with pytest.raises(RequestError, match="the model's chat template refuses a prompt with the roles user: no"):
        made(tmp_path, model)


def test_the_card_says_how_to_ask():
    from posttrain.promotion.card import _use

    plain, chat = "\n".join(_use(Origin("tiny"))), "\n".join(_use(Origin("x", is_chat=True, system='Say "yes".')))
    assert 'tokenizer("…\\n", return_tensors="pt")' in plain and "apply_chat_template" not in plain
    assert 'tokenizer("…' not in chat and "line break" not in chat
    line = next(line for line in chat.splitlines() if line.startswith("messages = "))
    assert json.loads(line.removeprefix("messages = ")) == [
        {"role": "system", "content": 'Say "yes".'},
        {"role": "user", "content": "…"},
    ]
