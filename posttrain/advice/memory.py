"""How much memory a method's training takes, from the sizes of its networks alone: a bound from below, and a likely figure."""

from dataclasses import dataclass, replace

from posttrain.advice.situation import Situation
from posttrain.methods import Method

TRAINED_BYTES = 16
"""Of a weight that is trained in full: float32 weight 4, gradient 4, Adam's two moments 8. Mixed precision has as many: 2 + 2
+ 12 (ZeRO, arXiv:1910.02054, section 3.1)."""
ACTIVATION_BYTES = {True: 68, False: 136}
"""Of a token, a layer and a unit of width, on a GPU and on a CPU. On a GPU 34 in 16 bits (arXiv:2205.05198, section 4.1, without
what grows with the square of the length), twice in 32. On a CPU nothing is fused: SFT of SmolLM2-135M peaks where 136 puts it
(`python -m benchmarks.memory`, docs/decisions/0038-memory-between-stages.md)."""
KEPT_BYTES = 4
"""Of a token, a layer and a unit of width where activations are computed again: the block's input, float32 (arXiv:1604.06174)."""
QUANTIZED_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Of a weight of a linear layer in NF4: 4 bits, an 8-bit scale for each 64 weights, a 32-bit one for each 256 scales
(arXiv:2305.14314, section 3)."""
LAID_OUT = 2**22
"""Weights from which a processor samples from a copy of them, laid out for its products (docs/decisions/0034-sampling.md)."""
LOGIT_BYTES = 12
"""Of a token and a word of the vocabulary: logits, log-probabilities and their gradient, float32 each."""


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        least: weights, gradients, optimiser and the networks beside: less is impossible without sharding or offloading.
        likely: with the activations of one device batch of long rows, or the cache of responses that are drawn, and with the
            process itself.
        parts: by name, what `least` is made of.
    """

    least: int
    likely: int
    parts: dict[str, int]


def memory_of(method: Method, situation: Situation) -> Memory:
    """Return what the largest of a method's stages holds at once: training, or drawing responses with their cache.

    SFT and the trainers of preferences hold one trained network (DPO and KTO compute their reference's log-probabilities
    beforehand). A method that is rewarded holds its policy, a reference (none of its own under LoRA, whose adapters are
    switched off for it), a critic where it has one, a copy in bfloat16 where that draws the responses, and what rewards it, if
    that is a network.
    """
    weights, asked = situation.base.weights, situation.asked
    frozen = situation.machine.weight_bytes * weights
    under_adapters, trained = _under_adapters(situation), _trained(situation)
    if method.is_prompted:
        return _with_more(situation, {"weights": frozen}, _drawing(situation, asked.drawn_rows))
    parts = {"trained network": trained}
    if method.is_rewarded:
        # labels' own, or one that ppo.reward names
        has_reward_model = method.learns_from.reward == "reward_model" or (
            method.learns_from.reward == "named" and asked.reward.startswith("model:")
        )
        if not asked.lora_rank:
            parts["reference"] = 4 * weights
        if method.has_critic and not asked.has_shared_critic:
            # under LoRA a critic that starts from the policy has its frozen weights; a reward model brings its own
            is_sharing = asked.lora_rank and not has_reward_model
            parts["critic"] = trained - (under_adapters if is_sharing else 0)
        if asked.has_sampling_copy:
            parts["copy that samples"] = 2 * weights
        if has_reward_model:
            parts["reward model"] = 4 * weights * asked.reward_models
        if method.learns_from.reward == "judge" and not asked.names_judge:
            parts["judge"] = frozen
    rows = asked.device_rows.get(method.trainer or "sft", 1)
    sequences = 2 * rows if method.is_labelled and not method.is_rewarded else rows
    activations = sequences * max(1, situation.sequence_tokens) * _token_bytes(situation)
    found = _with_more(situation, parts, max(activations, _drawing(situation, asked.rollout_rows) if method.is_rewarded else 0))
    # evaluation and sampling hold a model and its cache, and for the KL of its responses a second model
    drawing = 2 * frozen + _drawing(situation, asked.drawn_rows)
    return replace(found, likely=max(found.likely, drawing + situation.machine.process))


def _with_more(situation: Situation, parts: dict[str, int], more: int) -> Memory:
    least = sum(parts.values())
    return Memory(least=least, likely=least + more + situation.machine.process, parts=parts)


def _trained(situation: Situation) -> int:
    rank, weights = situation.asked.lora_rank, situation.base.weights
    if not rank:
        return TRAINED_BYTES * weights
    return _under_adapters(situation) + TRAINED_BYTES * rank * situation.base.adapter_width


def _under_adapters(situation: Situation) -> int:
    """Return the bytes of the frozen weights under adapters; in 4 bits the embeddings and the output layer stay whole."""
    base, whole = situation.base, situation.machine.weight_bytes
    if not situation.asked.is_quantized:
        return whole * base.weights
    kept_whole = min(base.weights, base.vocabulary * base.width)
    return round(QUANTIZED_BYTES * (base.weights - kept_whole)) + whole * kept_whole


def _token_bytes(situation: Situation) -> int:
    """Return what the forward pass of one token leaves for the backward pass."""
    base, block = situation.base, ACTIVATION_BYTES[situation.machine.has_gpu]
    logits = base.vocabulary * LOGIT_BYTES
    if situation.asked.is_checkpointed:
        return base.width * (base.layers * KEPT_BYTES + block) + logits  # one block at a time is whole
    return base.layers * base.width * block + logits


def _drawing(situation: Situation, rows: int) -> int:
    """Return what drawing so many responses at once takes beside the networks: their cache, and the weights laid out."""
    weights = situation.base.weights
    is_laid_out = not situation.machine.has_gpu and weights >= LAID_OUT
    return _cache(situation, rows) + is_laid_out * situation.machine.weight_bytes * weights


def _cache(situation: Situation, rows: int) -> int:
    """Return the bytes of keys and values of so many sequences: layers · 2 · heads · width of a head, for each token."""
    base = situation.base
    return rows * max(1, situation.sequence_tokens) * base.layers * base.cache_width * situation.machine.weight_bytes
