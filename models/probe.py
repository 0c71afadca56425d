"""A try of a base before anything is trained, sampled or labelled: whether it does what all of that relies on."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor, nn
from transformers import GenerationConfig

from models.architecture import TAKE
from models.lora import lora
from models.policy import without_dropout
from models.positions import logits_at
from models.sampler import sample
from models.scorer import scorer_class
from posttrain.errors import RequestError
from posttrain.ops.masks import padded
from posttrain.settings.model import ModelSettings

_NEW = 4
"""Tokens that are drawn in a try."""
_APART = {torch.float32: 1e-3, torch.bfloat16: 0.25}
"""Mean difference of log-probabilities in nats that rounding explains, by format. One token misplaced makes more than 1."""


@torch.no_grad()
def check_network(network: Any, settings: ModelSettings, *, named: str) -> None:
    """Refuse a causal language model that cannot be sampled from, trained or scored with here.

    A few tokens are read and drawn, which takes a moment beside loading. Afterwards the network is of no use: it may have got
    adapters.

    Args:
        network: with its weights, in evaluation mode.
        settings: how it is to be trained.
        named: how a user named it, such as `model.base=./folder`.

    Raises:
        RequestError: a later token changes what is predicted before it; it has no linear output layer; what is sampled has other
            probabilities than the forward pass gives; padding changes what it writes; no score or adapters can be put on it.
    """
    network = without_dropout(network)
    network.generation_config = GenerationConfig()
    tries: list[Callable[[Any, Tensor], str]] = [_reads_ahead, _samples_otherwise, _generates_otherwise, _takes_no_score]
    if settings.lora_rank:
        tries.append(lambda network, ids: _takes_no_adapters(network, settings))
    size = network.get_input_embeddings().num_embeddings
    ids = torch.randint(size, (2, 6), generator=torch.Generator().manual_seed(0)).to(network.device)
    for attempt in tries:
        try:
            reason = attempt(network, ids)
        except Exception as error:  # whatever a model raises at what it does not know
            first = str(error).strip().partition("\n")[0]
            reason = f"a try of it fails with {type(error).__name__}{': ' if first else ''}{first}"
        if reason:
            raise RequestError(f"{named}: its architecture ({network.config.model_type}) cannot be used here: {reason}. {TAKE}")


def _reads_ahead(network: Any, ids: Tensor) -> str:
    output = network.get_output_embeddings()
    if not isinstance(output, nn.Linear):
        return "it has no linear output layer"
    whole, part = (network(input_ids=some, use_cache=False).logits[:, 2] for some in (ids, ids[:, :3]))
    return "" if _agree(network, whole.log_softmax(-1), part.log_softmax(-1)) else "what it predicts depends on later tokens"


def _samples_otherwise(network: Any, ids: Tensor) -> str:
    """Sampling, with rows of unequal length, must draw from what training computes."""
    prompts = [ids[0].tolist(), ids[1, :2].tolist()]
    chance = torch.rand(len(prompts), _NEW, generator=torch.Generator().manual_seed(1))
    drawn = sample(network, prompts, chance, temperature=1.0, end_ids=(), pad_id=0, context=ids.shape[1] + _NEW, batch_size=2)
    told = torch.cat(list(drawn.logprobs)).to(network.device)
    wanted = _taken(network, prompts, drawn.responses)
    return "" if _agree(network, told, wanted) else "what is sampled from it has other probabilities than it computes in training"


def _generates_otherwise(network: Any, ids: Tensor) -> str:
    """Generation as evaluation does it, the shorter prompt padded on the left, must follow what training computes."""
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    how = GenerationConfig(
        do_sample=False,
        max_new_tokens=_NEW,
        pad_token_id=0,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    )
    told = network.generate(input_ids=ids * mask, attention_mask=mask, generation_config=how)
    prompts, responses = [ids[0].tolist(), ids[1, 4:].tolist()], told.sequences[:, ids.shape[1] :]
    logprobs = torch.stack(told.logits, dim=1).float().log_softmax(-1).gather(-1, responses[..., None]).flatten()
    wanted = _taken(network, prompts, responses.tolist())
    return "" if _agree(network, logprobs, wanted) else "padding or its cache changes what it writes"


def _takes_no_score(network: Any, ids: Tensor) -> str:
    with torch.device("meta"):
        scorer = scorer_class(network.config)(network.config)
    states = network.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return "" if scorer.score.in_features == states.shape[-1] else "a reward model's score does not fit its last hidden state"


def _takes_no_adapters(network: Any, settings: ModelSettings) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # training says them again
            get_peft_model(network, lora(settings))
    except ValueError as error:
        first = str(error).strip().partition("\n")[0].rstrip(".")
        return f"it takes no LoRA adapters ({first}). Say model.lora_rank=0 to train all of its weights"
    return ""


def _taken(network: Any, prompts: list[list[int]], responses: Any) -> Tensor:
    """Return the log-probability of each response token, (tokens,), from one forward pass padded on the right."""
    rows = [[*head, *tail] for head, tail in zip(prompts, responses, strict=True)]
    places = [(row, time - 1) for row, head in enumerate(prompts) for time in range(len(head), len(rows[row]))]
    taken = torch.tensor([token for tail in responses for token in tail], device=network.device)
    ids = padded(rows, with_value=0).to(network.device)
    logits = logits_at(network, ids, torch.tensor(places, device=network.device))
    return logits.float().log_softmax(-1).gather(-1, taken[:, None]).squeeze(-1)


def _agree(network: Any, one: Tensor, other: Tensor) -> bool:
    return float((one.float() - other.float()).abs().mean()) <= _APART.get(network.dtype, _APART[torch.bfloat16])
