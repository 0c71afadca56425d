"""The stage `few_shot`: the base with demonstrations before each prompt. Nothing is trained: its weights are the base's."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from transformers import PreTrainedTokenizerBase

from models.encoding import prompt_ids
from models.load import device, load_model, load_tokenizer
from models.prompt_format import PromptFormat, format_of
from models.shots import SHOTS, prompt_after, save_shots
from posttrain.errors import DataError
from posttrain.records import Demonstration, Prompt, Question
from posttrain.settings.few_shot import FewShotSettings
from posttrain.settings.model import ModelSettings
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import required
from tasks.workspace.weights import save, source_of

CARD = f"""\
# Few-shot prompting

The weights are those of the base: nothing was trained. What makes this another model is `{SHOTS}`, the demonstrations that stood
before each prompt when it was evaluated. Put its `text` before a plain prompt, which ends with a line break:

    shots = json.load(open(f"{{folder}}/{SHOTS}"))["text"]
    prompt = tokenizer(shots + "Tom has 12 apples, finds 5. How many?\\n", return_tensors="pt")

Before a prompt of messages its `shots` are earlier turns of the conversation, in the same order.
"""
CHAT_CARD = f"""\
# Few-shot prompting

The weights are those of the base: nothing was trained. What makes this another model is `{SHOTS}`, the demonstrations that were
earlier turns of the conversation, in this order, when it was evaluated:

    shots = json.load(open(f"{{folder}}/{SHOTS}"))["shots"]
    system = SYSTEM
    turns = [turn for one in shots for turn in (
        {{"role": "user", "content": one["prompt"]}}, {{"role": "assistant", "content": one["completion"]}})]
    messages = [*system, *turns, {{"role": "user", "content": "Tom has 12 apples, finds 5. How many?"}}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
"""


def train(
    out: Path,
    log: Log,
    *,
    data: Path,
    start: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: FewShotSettings,
    max_new_tokens: int,
    context: int,
    seed: int,
) -> Outcome:
    """Write `model/`: the weights of the model in `start`, and `shots.json`, the demonstrations to put before each prompt.

    Raises:
        DataError: not one demonstration fits into the context.
    """
    reader = load_tokenizer(tokenizer)
    found = required(data, "demonstrations", Demonstration, why="few-shot prompting shows")
    held_out = required(data, "held_out", Question, why="models are evaluated on")

    # lengths decide how many demonstrations fit, so that no question's response has less room than without them
    longest = max((one.prompt for one in held_out), key=lambda prompt: _tokens(reader, (), prompt))
    room = context - max_new_tokens
    shots = drawn(reader, found, before=longest, most=settings.shots, room=room, seed=seed)
    if not shots:
        raise DataError(
            f"few-shot prompting has no room for one demonstration: the longest held-out prompt has "
            f"{_tokens(reader, (), longest):,} tokens, a response {max_new_tokens:,} (evaluate.max_new_tokens), and the context "
            f"{context:,}. Raise model.context, or lower evaluate.max_new_tokens"
        )
    source, revision = source_of(start)
    save(load_model(source, model, on=device(), revision=revision), reader, out / "model")
    save_shots(shots, reader, out / "model")
    (out / "model" / "README.md").write_text(card_of(format_of(reader)), encoding="utf-8")
    added = _tokens(reader, shots, longest) - _tokens(reader, (), longest)
    return Outcome(metrics={"shots": len(shots), "shot_tokens": added, "demonstrations": len(found)})


def card_of(form: PromptFormat) -> str:
    """Return how the model is used: `shots.json` before a prompt, in the form in which it was evaluated."""
    system = [] if form.system is None else [{"role": "system", "content": form.system}]
    return CHAT_CARD.replace("SYSTEM", json.dumps(system, ensure_ascii=False)) if form.is_chat else CARD


def drawn(
    reader: PreTrainedTokenizerBase, found: Sequence[Demonstration], *, before: Prompt, most: int, room: int, seed: int
) -> list[Demonstration]:
    """Return up to `most` demonstrations in an order that the seed decides; one that does not fit any more is passed over.

    A larger `most` adds to the draw of a smaller one.

    Args:
        reader: the tokenizer.
        found: all demonstrations.
        before: the prompt that they must fit before.
        most: demonstrations.
        room: tokens of demonstrations and prompt together, at most.
        seed: of the draw.
    """
    order = list(found)
    Random(f"{seed}/few_shot").shuffle(order)
    shots: list[Demonstration] = []
    for one in order:
        if len(shots) == most:
            break
        if _tokens(reader, [*shots, one], before) <= room:
            shots.append(one)
    return shots


def _tokens(reader: PreTrainedTokenizerBase, shots: Sequence[Demonstration], prompt: Prompt) -> int:
    return len(prompt_ids(reader, [prompt_after(reader, shots, prompt)])[0])
