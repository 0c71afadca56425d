"""What stands before a prompt: by hand, by identity with no demonstrations at all, and there and back through the file."""

import json

from models.load import load_tokenizer, prompt_text
from models.shots import SHOTS, prompt_after, save_shots, shots_of
from posttrain.records import Demonstration, Message

SHOTS_OF_TEXT = [
    Demonstration(id="a", prompt="Tom has 1 apples. How many?", completion="Answer: 1"),
    Demonstration(id="b", prompt="Ann has 2 coins. How many?\n", completion="Answer: 2"),
]


def message(role, content):
    return Message(role=role, content=content)


def test_demonstrations_stand_before_text_as_documents_of_the_corpus_do(tiny_world):
    reader = load_tokenizer(tiny_world.tokenizer)
    told = prompt_after(reader, SHOTS_OF_TEXT, "Eva has 3 books. How many?")
    assert told == (
        "Tom has 1 apples. How many?\nAnswer: 1<eos>Ann has 2 coins. How many?\nAnswer: 2<eos>Eva has 3 books. How many?\n"
    )
    # EOS is one token, that which ends a document; the tokens of the parts are those of the whole
    parts = [told_of for one in SHOTS_OF_TEXT for told_of in (prompt_text(reader, one.prompt) + one.completion, None)]
    ids = [token for part in parts for token in (reader(part)["input_ids"] if part else [reader.eos_token_id])]
    assert reader(told)["input_ids"] == ids + reader("Eva has 3 books. How many?\n")["input_ids"]


def test_demonstrations_stand_before_messages_as_earlier_turns_do(tiny_world):
    reader = load_tokenizer(tiny_world.tokenizer)
    talk = Demonstration(id="t", prompt=(message("system", "Be long."), message("user", "1 + 1")), completion="Answer: 2")
    told = prompt_after(reader, [talk, SHOTS_OF_TEXT[0]], (message("system", "Be short."), message("user", "3 + 3")))
    assert told == (
        "Be short.\n\nHuman: 1 + 1\n\nAssistant: Answer: 2"
        "\n\nHuman: Tom has 1 apples. How many?\n\nAssistant: Answer: 1\n\nHuman: 3 + 3\n\nAssistant:"
    )


def test_without_demonstrations_a_prompt_is_as_it_always_is(tiny_world):
    reader = load_tokenizer(tiny_world.tokenizer)
    for prompt in ("Tom has 1 apples.", (message("system", "Be short."), message("user", "3 + 3"))):
        assert prompt_after(reader, (), prompt) == prompt_text(reader, prompt)


def test_what_is_saved_is_read_again_and_a_model_without_the_file_has_none(tiny_world, tmp_path):
    reader = load_tokenizer(tiny_world.tokenizer)
    assert shots_of(tmp_path) == ()
    (tmp_path / "model").mkdir()
    assert shots_of(tmp_path) == ()
    save_shots(SHOTS_OF_TEXT, reader, tmp_path / "model")
    assert shots_of(tmp_path) == tuple(SHOTS_OF_TEXT)
    # what the card promises: the text before a plain prompt makes what evaluation reads
    text = json.loads((tmp_path / "model" / SHOTS).read_text())["text"]
    assert text + "Eva has 3 books. How many?\n" == prompt_after(reader, SHOTS_OF_TEXT, "Eva has 3 books. How many?")
