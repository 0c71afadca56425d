"""How much memory a method's training takes of a device, from the sizes of its networks alone, and how processes share it.

A bound from below, and a likely figure. docs/scale.md has the formulas; tests/tasks/training/test_scale.py counts tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from posttrain.advice.situation import Base, Situation
from posttrain.methods import Method

TRAINED = {"weights": 4, "gradients": 4, "Adam": 8}
"""Bytes of a weight that is trained, each float32 whatever `model.dtype` is: weight, gradient, Adam's two moments. As many as
mixed precision has after ZeRO (arXiv:1910.02054, section 3.1), which counts 2 + 2 + 12."""
TRAINED_BYTES = sum(TRAINED.values())
CAST_BYTES = 2
"""Of a trained weight where products are in bfloat16: the copy that autocast makes for the forward pass, which the backward pass
multiplies with. ZeRO's count has it within its 16."""
FROZEN_BYTES = 4
"""Of a weight of PPO's reference and of a reward model: float32."""
ACTIVATION_BYTES = {2: 68, 4: 96}
"""Of a token, a layer and a unit of width, by the bytes of a number in products. In 16 bits twice the 34 of arXiv:2205.05198,
section 4.1 (without what grows with the square of the length), since norms and the residual stream are in float32; counted are 53
to 61. In 32 bits counted: 78 to 92 of Llama's shapes, 113 of GPT-2's (tests/tasks/training/test_scale.py)."""
KEPT_BYTES = 4
"""Of a token, a layer and a unit of width where activations are computed again: the block's input, float32 (arXiv:1604.06174)."""
QUANTIZED_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Of a weight of a linear layer in NF4: 4 bits, an 8-bit scale for each 64 weights, a 32-bit one for each 256 scales
(arXiv:2305.14314, section 3)."""
LAID_OUT = 2**22
"""Weights from which a processor samples from a copy of them, laid out for its products (docs/decisions/0034-sampling.md)."""
LOGIT_BYTES = {True: 12, False: 8}
"""Of a response token and a word of the vocabulary in PPO's loop, on a GPU and without one: logits and their gradient, float32;
on a GPU what log-probabilities are made of is there all at once too (`posttrain.ops.logprobs`)."""
TILE_TOKENS, TILE_WORDS = 4_096, 32_768
"""Of the logits that TRL's trainers compute at a time (`trl.kernels.chunked_logprob` of 1.16): whatever a batch has, no more."""
TILE_COPIES = 7
"""Float32 tensors of a tile's size that TRL works with beside it where there is no Triton, which is without a GPU; counted."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a device: of a GPU, or of all processes on a machine without one.

    Attributes:
        least: weights, gradients, optimiser and the networks beside: less is impossible without sharding or offloading.
        likely: with the activations of one device batch of long rows, or the cache of responses that are drawn, and with the
            process itself; or what evaluation takes, where that is more.
        training: the same of the stage that trains alone.
        parts: by name, what `least` is made of.
        phases: `training`, and `sampling` where the method's trainer samples: by name, what each has beside `least`. One of them
            is at work at a time.
    """

    least: int
    likely: int
    training: int
    parts: dict[str, int]
    phases: Mapping[str, dict[str, int]] = field(default_factory=dict)

    @property
    def largest(self) -> str:
        """The name of the largest part, of the networks or of the phase that takes most."""
        busiest = max(self.phases.values(), key=lambda phase: sum(phase.values()), default={})
        together = {**self.parts, **busiest}
        return max(together, key=lambda name: together[name])


def memory_of(method: Method, situation: Situation) -> Memory:
    """Return what the largest of a method's stages holds at once: training, or drawing responses with their cache.

    SFT and the trainers of preferences hold one trained network (DPO and KTO compute their reference's log-probabilities
    beforehand). A method that is rewarded holds its policy, a reference (none of its own under LoRA, whose adapters are
    switched off for it), a critic where it has one, a copy in bfloat16 where that draws the responses, and what rewards it, if
    that is a network. Processes that share weights hold a part of policy, critic and reference each, and all of what rewards.
    """
    asked = situation.asked
    if method.is_prompted:
        frozen = {"weights": situation.machine.weight_bytes * situation.base.weights}
        alone = replace(situation, asked=replace(asked, processes=1))
        return _summed(alone, frozen, {"sampling": _drawing(situation, asked.drawn_rows)})
    networks = _networks(method, situation)
    rows = asked.device_rows.get(method.trainer or "sft", 1)
    sequences = 2 * rows if method.is_labelled and not method.is_rewarded else rows
    if not method.is_rewarded and asked.checkpoints_itself and situation.machine.has_gpu:
        situation = replace(situation, asked=replace(asked, is_checkpointed=True))
    # a loop that samples asks the output layer for response tokens alone
    logits = _loop_logits(situation, sequences) if method.is_rewarded else _tile(situation, sequences)
    phases = {"training": _training(situation, sequences, logits=logits, networks=1 + ("critic" in networks))}
    if method.is_rewarded:
        draws_itself = not (asked.engine_share or asked.draws_elsewhere)
        phases["sampling"] = _gathered_policy(situation) | (_drawing(situation, asked.rollout_rows) if draws_itself else {})
    found = _summed(situation, networks, phases)
    return replace(found, likely=max(found.training, evaluation_memory(situation)))


def evaluation_memory(situation: Situation) -> int:
    """Return what evaluation and sampling hold in one process: a model, its cache, and for the KL of responses a second one."""
    models = 2 * situation.machine.weight_bytes * situation.base.weights
    return models + sum(_drawing(situation, situation.asked.drawn_rows).values()) + situation.machine.process


def reward_model_memory(situation: Situation) -> Memory:
    """Return what the stage that trains a reward model holds: one network, which gives a score and no logits."""
    training = _training(situation, situation.asked.device_rows.get("reward_model", 1), logits=0, networks=1)
    return _summed(situation, {"trained network": _trained(situation)}, {"training": training})


def trained_parts(situation: Situation) -> dict[str, int]:
    """Return what a trained network is made of, by the names of `TRAINED`; `frozen` under adapters."""
    trained = _trained_weights(situation)
    parts = {name: size * trained // _shares(situation) for name, size in TRAINED.items()}
    return {"frozen": _under_adapters(situation), **parts} if situation.asked.lora_rank else parts


# --- networks ---------------------------------------------------------------------------------------------------------


def _networks(method: Method, situation: Situation) -> dict[str, int]:
    """Return the networks of a method's trainer, by name."""
    asked, weights = situation.asked, situation.base.weights
    trained = _trained(situation)
    parts = {"trained network": trained}
    if not method.is_rewarded:
        return parts
    # labels' own, or one that ppo.reward names
    has_reward_model = method.learns_from.reward == "reward_model" or (
        method.learns_from.reward == "named" and asked.reward.startswith("model:")
    )
    if not asked.lora_rank:
        parts["reference"] = FROZEN_BYTES * weights // _shares(situation)
    if method.has_critic and not asked.has_shared_critic:
        # under LoRA a critic that starts from the policy has its frozen weights; a reward model brings its own
        is_sharing = asked.lora_rank and not has_reward_model
        parts["critic"] = trained - (_under_adapters(situation) if is_sharing else 0)
    if asked.has_sampling_copy:
        parts["copy that samples"] = 2 * weights
    if asked.engine_share:
        parts["vLLM"] = round(asked.engine_share * situation.machine.memory)
    if has_reward_model:
        parts["reward model"] = FROZEN_BYTES * weights * asked.reward_models
    if method.learns_from.reward == "judge" and not asked.names_judge:
        parts["judge"] = situation.machine.weight_bytes * weights
    return parts


def _shares(situation: Situation) -> int:
    """Return among how many processes a network's weights, gradients and optimiser's state are shared out."""
    return situation.asked.processes if situation.asked.is_sharded else 1


def _trained_weights(situation: Situation) -> int:
    rank = situation.asked.lora_rank
    return rank * situation.base.adapter_width if rank else situation.base.weights


def _trained(situation: Situation) -> int:
    """Return the bytes of a trained network, with gradients and the optimiser's state."""
    under = _under_adapters(situation) if situation.asked.lora_rank else 0
    return under + TRAINED_BYTES * _trained_weights(situation) // _shares(situation)


def _under_adapters(situation: Situation) -> int:
    """Return the bytes of the frozen weights under adapters; in 4 bits the embeddings and the output layer stay whole."""
    base, whole = situation.base, situation.machine.weight_bytes
    if not situation.asked.is_quantized:
        return whole * base.weights // _shares(situation)
    kept_whole = min(base.weights, base.vocabulary * base.width)
    return round(QUANTIZED_BYTES * (base.weights - kept_whole)) + whole * kept_whole


def _gathered_policy(situation: Situation) -> dict[str, int]:
    """Return the whole copy of the policy that each process draws from, where its weights are shared out."""
    if _shares(situation) == 1:
        return {}
    size = situation.machine.weight_bytes if situation.asked.lora_rank else TRAINED["weights"]
    return {"gathered policy": size * situation.base.weights}


# --- passes -----------------------------------------------------------------------------------------------------------


def _training(situation: Situation, sequences: int, *, logits: int, networks: int) -> dict[str, int]:
    """Return what a training step on so many sequences holds beside the networks.

    Args:
        situation: base, machine and settings.
        sequences: that a device takes at once.
        logits: bytes of logits and what is made of them.
        networks: that are trained together, each of the base's size.
    """
    found = {
        "activations": networks * sequences * max(1, situation.sequence_tokens) * _block_bytes(situation),
        "logits": logits,
    }
    if situation.machine.weight_bytes == CAST_BYTES:
        found["weights in bfloat16"] = networks * CAST_BYTES * _trained_weights(situation)
    if _shares(situation) > 1:
        # what is gathered is in the number format of products already
        found.pop("weights in bfloat16", None)
        found["gathered blocks"] = networks * _gathered_blocks(situation.base, size=situation.machine.weight_bytes)
    return found


def _loop_logits(situation: Situation, sequences: int) -> int:
    """Return what logits take in PPO's loop, whose log-probabilities and entropies are our own."""
    return sequences * situation.drawn_tokens * situation.base.vocabulary * LOGIT_BYTES[situation.machine.has_gpu]


def _tile(situation: Situation, sequences: int) -> int:
    """Return what logits take in TRL's trainers: one tile, and without a GPU what is worked with beside it."""
    tokens = min(sequences * max(1, situation.sequence_tokens), TILE_TOKENS)
    beside = 0 if situation.machine.has_gpu else TILE_COPIES * 4 * min(situation.base.vocabulary, TILE_WORDS)
    return tokens * (situation.machine.weight_bytes * TILE_WORDS + beside)


def _gathered_blocks(base: Base, *, size: int) -> int:
    """Return what is whole at a time where weights are shared out: two blocks, one's gradient, and what is in no block.

    The next block is gathered while one is computed. What is in no block, embedding and output layer, is gathered with the root.
    """
    outside = min(base.weights, base.vocabulary * base.width)
    block = (base.weights - outside) // max(1, base.layers)
    return size * (3 * block + 2 * outside)


def _block_bytes(situation: Situation) -> int:
    """Return what one token leaves of all blocks for the backward pass, logits left out."""
    base, block = situation.base, ACTIVATION_BYTES[situation.machine.weight_bytes]
    if situation.asked.is_checkpointed:
        return base.width * (base.layers * KEPT_BYTES + block)  # one block at a time is whole
    return base.layers * base.width * block


def _drawing(situation: Situation, rows: int) -> dict[str, int]:
    """Return what drawing so many responses at once takes beside the networks: their cache, and the weights laid out."""
    weights = situation.base.weights
    is_laid_out = not situation.machine.has_gpu and weights >= LAID_OUT
    laid_out = {"weights laid out": situation.machine.weight_bytes * weights} if is_laid_out else {}
    return {"cache": rows * max(1, situation.sequence_tokens) * cache_bytes(situation)} | laid_out


def cache_bytes(situation: Situation) -> int:
    """Return the bytes of a token's keys and values: layers · 2 · heads · width of a head."""
    return situation.base.layers * situation.base.cache_width * situation.machine.weight_bytes


def _summed(situation: Situation, networks: dict[str, int], phases: dict[str, dict[str, int]]) -> Memory:
    machine = situation.machine
    # without a GPU processes share one memory
    copies = 1 if machine.has_gpu else situation.asked.processes
    least = copies * sum(networks.values())
    training = least + copies * (max(sum(phase.values()) for phase in phases.values()) + machine.process)
    return Memory(
        least=least,
        likely=training,
        training=training,
        parts={name: copies * size for name, size in networks.items()},
        phases={name: {part: copies * size for part, size in phase.items()} for name, phase in phases.items()},
    )
