"""Reward models: a causal model's trunk with one score at a sequence's last token, centred, one or several.

On disk a reward model is a directory as transformers writes it, and `AutoModelForSequenceClassification` reads it wherever
transformers has such a class for the architecture (`models.scorer`). Its heads have no bias, so what centres its scores stands in
its configuration (`posttrain_centre`), and further members of an ensemble lie in folders within it; whoever reads the directory
with plain transformers gets the first member, uncentred.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from models.architecture import without_router_logits
from models.decoder import LARGE
from models.encoding import prompt_ids
from models.load import dtype, fit_embedding
from models.packed import Packing, called_packed, is_packing, let_pack, read_once
from models.policy import without_dropout
from models.quantization import loaded_in_4_bits
from models.scorer import saved_class, scorer_class
from models.size import size_of
from posttrain.compute import Compute, reading
from posttrain.errors import RequestError
from posttrain.ops.device_rows import in_parts
from posttrain.ops.masks import is_response, padded
from posttrain.settings.model import ModelSettings

CENTRE = "posttrain_centre"
"""Where a reward model's configuration keeps the mean score of the reference demonstrations."""


# --- making, saving, loading ------------------------------------------------------------------------------------------


def reward_network(
    source: str | Path, settings: ModelSettings, *, on: torch.device, revision: str | None = None, pad: int, seed: int
) -> PreTrainedModel:
    """Return the trunk of a causal model with a new head of one score, without dropout.

    The head's weights are normal with standard deviation 1 / √(width + 1), so that scores start near a spread of 1 (Stiennon et
    al. 2020, arXiv:2009.01325, and its authors' code); it has no bias, which no difference of two scores could teach.

    Args:
        source: directory or hub id of the causal model.
        settings: how it is loaded.
        on: device.
        revision: of the hub id.
        pad: id of the padding token.
        seed: of the head's weights.

    Raises:
        RequestError: the model cannot be loaded, or its files lack some of its weights.
    """
    wanted = torch.float32 if settings.lora_rank == 0 else dtype(settings)
    try:
        config = AutoConfig.from_pretrained(str(source), revision=revision, num_labels=1, trust_remote_code=False)
        network, told = scorer_class(config).from_pretrained(
            str(source),
            config=config,
            revision=revision,
            dtype=wanted,
            use_safetensors=True,
            output_loading_info=True,
            **loaded_in_4_bits(settings, kind=wanted, on=on),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().partition("\n")[0]
        raise RequestError(f"model.base={source}: it cannot be loaded as a reward model: {first}") from None
    head = network.score
    if missing := sorted(name for name in told["missing_keys"] if not name.startswith("score.")):
        raise RequestError(
            f"model.base={source}: {len(missing)} of its weights are not in its files ({missing[0]}), and would be random. "
            "Save the whole model with save_pretrained(folder)"
        )
    fit_embedding(network, source, revision=revision)
    chance = torch.Generator().manual_seed(seed)
    start = torch.randn(head.weight.shape, generator=chance) / math.sqrt(head.in_features + 1)
    with torch.no_grad():
        head.weight.copy_(start)
        if head.bias is not None:
            head.bias.zero_()
    network.config.get_text_config().pad_token_id = pad
    network = without_router_logits(without_dropout(network)).to(on).eval()
    let_pack(network.base_model)
    return network


def save_reward_model(members: Sequence[Any], tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the members' weights, each with its centre in its configuration (`centre_of`)."""
    for member, place in zip(members, _folders(folder), strict=False):
        member.save_pretrained(place)
        tokenizer.save_pretrained(place)


def load_reward_model(folder: str | Path, *, on: torch.device) -> list[PreTrainedModel]:
    """Return the members of a reward model that lies in `folder`, ours or anybody's with one score.

    Raises:
        OSError, ValueError, KeyError, RuntimeError: as transformers does where they cannot be loaded; a weight is missing.
    """
    places = takewhile(lambda place: (place / "config.json").is_file(), _folders(Path(folder)))
    return [_loaded(place).to(on).eval() for place in places]


def _loaded(place: Path) -> Any:
    kind = saved_class(AutoConfig.from_pretrained(str(place), trust_remote_code=False)) or AutoModelForSequenceClassification
    network, told = kind.from_pretrained(str(place), use_safetensors=True, trust_remote_code=False, output_loading_info=True)
    if missing := sorted(told["missing_keys"]):
        raise ValueError(f"{len(missing)} of its weights are not in its files ({missing[0]}), and would be random")
    fit_embedding(network, place, setting="ppo.reward")
    return without_router_logits(network)


def _folders(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (folder / f"member-{number}" for number in count(2))


def centre_of(member: Any) -> float:
    """Return what is subtracted from a member's scores; 0 for a model that says nothing of it."""
    return float(getattr(member.config, CENTRE, 0.0))


def centred(member: Any, *, at: float) -> Any:
    """Return the member, its configuration saying that `at` is subtracted from its scores."""
    setattr(member.config, CENTRE, at)
    return member


# --- scoring ----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def score_texts(
    members: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int,
    spent: Callable[[Compute], None] = lambda compute: None,
) -> list[float]:
    """Return the mean over the members of each text's score less the member's centre.

    EOS is put behind every text, finished or not, as texts do not say which they are; training does the same.

    Args:
        members: sequence-classification models with one score, in evaluation mode, on one device.
        tokenizer: of all of them, with a padding token; its padding side does not matter.
        texts: prompt and response each, without EOS.
        batch_size: texts scored together, at most, those of like length together.
        spent: is told what each batch took.
    """
    sizes = [size_of(member) for member in members]
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    told = [0.0] * len(texts)

    def score(places: Sequence[int]) -> None:
        batch = tokenizer.pad(
            {"input_ids": [[*row, tokenizer.eos_token_id] for row in prompt_ids(tokenizer, [texts[place] for place in places])]},
            return_tensors="pt",
            padding_side="right",
        ).to(members[0].device)
        tokens = int(batch["attention_mask"].sum())
        means = [0.0] * len(places)
        for member in members:
            member.config.get_text_config().pad_token_id = tokenizer.pad_token_id
            scores = member(**batch).logits[:, 0].double() - centre_of(member)
            means = [mean + score / len(members) for mean, score in zip(means, scores.tolist(), strict=True)]
        for place, mean in zip(places, means, strict=True):
            told[place] = mean
        for size in sizes:
            spent(reading(size, tokens))

    in_parts("scoring", order, batch_size, score)
    return told


def token_scores(network: Any, groups: Sequence[Sequence[Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """Return the score at each token, one sequence behind the other, and where each sequence ends.

    What a network scores a text with is the score at its last token, `scores[ends - 1]`. What the sequences of a group begin with
    is read once where that pays (`is_sharing`).

    Args:
        network: a causal model with a linear head `score` (`reward_network`), with adapters where LoRA is used.
        groups: token ids of prompt, response and EOS; those of one prompt together.

    Returns:
        (tokens,), float32, uncentred, with their gradients; (sequences,), int64.
    """
    lengths = torch.tensor([len(sequence) for group in groups for sequence in group], device=network.device)
    states = _states(network, groups, lengths)
    scores = network.score(states.to(next(network.score.parameters()).dtype)).squeeze(-1).float()
    return scores, lengths.cumsum(0)


def is_sharing(network: Any) -> bool:
    """Return whether what sequences begin with is read once (`tokens_read`): not by small networks, whose calls cost more."""
    whole = network.get_base_model() if hasattr(network, "get_base_model") else network
    return is_packing(whole.base_model) and sum(weight.numel() for weight in whole.parameters()) >= LARGE


def tokens_read(network: Any, groups: Sequence[Sequence[Sequence[int]]]) -> int:
    """Return how many tokens `token_scores` lets go through the network."""
    return len(read_once(groups)[0]) if is_sharing(network) else sum(len(sequence) for group in groups for sequence in group)


def _states(network: Any, groups: Sequence[Sequence[Sequence[int]]], lengths: Tensor) -> Tensor:
    """Return the last hidden state of each token, one sequence behind the other; (tokens, width)."""
    whole = network.get_base_model() if hasattr(network, "get_base_model") else network
    trunk = whole.base_model
    if is_sharing(network):
        read, tokens = read_once(groups)
        shared: Tensor = called_packed(
            trunk, torch.tensor([read], device=lengths.device), Packing.of(lengths, tokens=tokens)
        ).last_hidden_state[0]
        return shared.index_select(0, tokens.to(lengths.device))
    sequences = [sequence for group in groups for sequence in group]
    if is_packing(trunk):
        flat = torch.tensor([token for sequence in sequences for token in sequence], device=lengths.device)
        packed: Tensor = called_packed(trunk, flat[None], Packing.of(lengths)).last_hidden_state[0]
        return packed
    ids = padded(sequences, with_value=0).to(lengths.device)  # causal: what stands behind a token cannot reach it
    states: Tensor = trunk(input_ids=ids, use_cache=False).last_hidden_state
    return states[is_response(lengths, longest=ids.shape[1])]
