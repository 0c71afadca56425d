"""What both sides are given: a checkpoint, a reward model, prompts and hyper-parameters, in one folder a size.

    python -m benchmarks.ppo_vs_trl.inputs default|30m FOLDER

`default` is the tiny base (3 layers, width 64), trained for a few seconds on stories and their solutions by careful and
careless authors, with a reward model that prefers the careful one; `30m` is Llama-shaped with 32,000 tokens and random
weights: the arithmetic costs what it costs whatever the weights are.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from models.tiny import network, padded, pretrain
from models.tokenizers import world_tokenizer
from posttrain.data.world import CAREFUL, draw_author, draw_problem
from posttrain.prompts import separated
from posttrain.settings.model import PretrainSettings, TinySettings

CONTEXT = 512
EQUAL: dict[str, Any] = {
    "epochs": 2,
    "mini_batches": 4,
    "kl_coef": 0.05,
    "clip_range": 0.2,
    "value_clip_range": 0.2,
    "value_coef": 1.0,
    "gamma": 1.0,
    "gae_lambda": 0.95,
    "temperature": 1.0,
    "adam_epsilon": 1e-5,
    "longest": 40,
    "context": CONTEXT,
}
"""Hyper-parameters of both sides in both sizes, by our names."""
SIZES: dict[str, dict[str, Any]] = {
    "default": {"episodes": 256, "learning_rate": 1e-4},
    "30m": {"episodes": 16, "learning_rate": 1e-5},
}


def make(size: str, folder: Path) -> None:
    torch.manual_seed(0)
    stories = list(_stories(6_000, seed=0))
    tokenizer = world_tokenizer(separated(prompt) + text for prompt, *texts in stories for text in texts)
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    if size == "default":
        policy = network(TinySettings(), vocabulary=len(tokenizer), context=CONTEXT, pad=pad, eos=eos)
        asked = [tokenizer(separated(prompt))["input_ids"] for prompt, *_ in stories]
        told = [[tokenizer(text)["input_ids"] for text in texts] for _, *texts in stories]
        documents = [[*head, *texts[1], eos] for head, texts in zip(asked, told, strict=True)]
        for _ in pretrain(policy, documents, PretrainSettings(steps=300), seed=0, pad=pad):
            pass
        pairs = [[[*head, *text, eos] for text in texts] for head, texts in zip(asked, told, strict=True) if texts[0] != texts[1]]
        prompts = asked[:1_000]
    else:
        policy = LlamaForCausalLM(_thirty_million(pad, eos))
        pairs = []
        draw = Random(0)
        prompts = [[draw.randrange(3, 32_000) for _ in range(draw.randint(25, 45))] for _ in range(256)]
    folder.mkdir(parents=True, exist_ok=True)
    policy.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    reward = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=1)
    _prefer(reward, pairs, pad=pad)
    reward.save_pretrained(folder / "reward")
    (folder / "prompts.json").write_text(json.dumps(prompts))
    weights = sum(weight.numel() for weight in policy.parameters())
    told_settings = EQUAL | SIZES[size] | {"pad_id": pad, "eos_id": eos, "parameters": weights}
    (folder / "settings.json").write_text(json.dumps(told_settings, indent=1))


def _stories(count: int, *, seed: int) -> Iterator[tuple[str, str, str]]:
    """Yield a story, its right solution, and that of an author who may be careless."""
    draw = Random(seed)
    for _ in range(count):
        problem = draw_problem(draw)
        author = draw_author(draw, careful_share=0.4)
        yield problem.text, CAREFUL.solution(problem)[0], author.solution(problem)[0]


def _thirty_million(pad: int, eos: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=32_000,
        hidden_size=384,
        intermediate_size=1_024,
        num_hidden_layers=10,
        num_attention_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=pad,
        eos_token_id=eos,
        bos_token_id=None,
    )


def _prefer(model: PreTrainedModel, pairs: list[list[list[int]]], *, pad: int) -> None:
    """Train a reward model on (preferred, other) for 100 steps of 64 pairs: -log σ(s⁺ - s⁻), Bradley and Terry 1952."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    draw = Random(1)
    for _ in range(100 if pairs else 0):
        batch = draw.sample(pairs, 64)
        rows = [pair[side] for side in (0, 1) for pair in batch]
        ids, is_token = padded(rows, pad=pad, device=torch.device("cpu"))
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        score = model.score(hidden[torch.arange(len(rows)), is_token.sum(dim=1) - 1]).squeeze(-1)
        loss = -logsigmoid(score[:64] - score[64:]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
