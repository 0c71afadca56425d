"""How fast sampling must be to take no longer than training, how fast it can be, and what a weight sync moves."""

import math
from dataclasses import dataclass

from posttrain.advice.memory import TRAINED, cache_bytes
from posttrain.advice.situation import Situation
from posttrain.compute import Size, learning, reading
from posttrain.methods import Method

GB = 10**9


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        memory: bytes.
        flops: of products in 16 bits, operations a second.
        bandwidth: of its memory, bytes a second.
        link: to another GPU, bytes a second in one direction.
        used: share of `flops` that training comes to.
    """

    memory: float = 80 * GB
    flops: float = 989e12
    bandwidth: float = 3.35e12
    link: float = 450e9
    used: float = 0.4


H100 = Device()
"""NVIDIA H100 SXM by its data sheet (dense products, NVLink); 38 to 43 % of it is used in Llama 3's training (arXiv:2407.21783,
table 4)."""


@dataclass(frozen=True)
class Loop:
    """What an update of a method that samples as it trains asks for.

    Attributes:
        episodes: responses.
        epochs: passes over them.
        prompt: tokens of a prompt.
        response: tokens of a response.
        recomputes: the policy reads its responses once more before training: always in bfloat16.
        reward_models: networks of the base's size that read each response.
        checkpointed: the forward pass is computed again in the backward pass.
    """

    episodes: int
    epochs: int
    prompt: int
    response: int
    recomputes: bool = True
    reward_models: int = 0
    checkpointed: bool = False


@dataclass(frozen=True)
class Balance:
    """Sampling against training.

    Attributes:
        update_seconds: reading and training of an update, on all GPUs.
        needed: response tokens a second and GPU at which sampling takes as long.
        rows: responses drawn together on a GPU at which it does; None where no number of them is enough.
        reached: response tokens a second and GPU with the rows that the settings give.
        bound: what decides that: `weights` or `cache`, which are read from memory for each token, or `arithmetic`.
    """

    update_seconds: float
    needed: float
    rows: int | None
    reached: float
    bound: str


def sync_bytes(situation: Situation) -> int:
    """Return what one weight sync hands to a rollout engine: every weight once, in the number format that it is trained in.

    TRL's `sync_weights` hands over float32 weights as such; adapters are added to the frozen weights first.
    """
    size = situation.machine.weight_bytes if situation.asked.lora_rank else TRAINED["weights"]
    return size * situation.base.weights


def update_flops(method: Method, situation: Situation, loop: Loop) -> float:
    """Return the operations of an update without its sampling.

    2 N a token that is read by policy, critic, reference and reward models; 6 N a token that is learnt from (4 N of frozen
    weights); 2 N more where activations are computed again.
    """
    base, asked = situation.base, situation.asked
    policy = Size(trained=base.weights)
    if asked.lora_rank:
        policy = Size(trained=asked.lora_rank * base.adapter_width, frozen=base.weights)
    has_own_critic = method.has_critic and not asked.has_shared_critic
    read = loop.recomputes + 1 + has_own_critic + loop.reward_models
    tokens = loop.episodes * (loop.prompt + loop.response)
    learnt = learning(policy, tokens).flops + loop.checkpointed * reading(policy, tokens).flops
    return read * reading(policy, tokens).flops + loop.epochs * (1 + has_own_critic) * learnt


def step_seconds(situation: Situation, loop: Loop, device: Device, *, rows: int, together: int = 1) -> dict[str, float]:
    """Return what bounds one step of decoding, by name, seconds: the sum of reading weights and cache, or the arithmetic.

    Args:
        situation: base and number format.
        loop: how long prompts and responses are: of a response half is there on average.
        device: a GPU.
        rows: that are drawn together on each GPU.
        together: GPUs that hold one copy of the weights.
    """
    weights = situation.machine.weight_bytes * situation.base.weights
    context = loop.prompt + loop.response / 2
    return {
        "weights": weights / together / device.bandwidth,
        "cache": rows * context * cache_bytes(situation) / device.bandwidth,
        "arithmetic": rows * reading(Size(frozen=situation.base.weights), 1).flops / (device.used * device.flops),
    }


def tokens_a_second(seconds: dict[str, float], *, rows: int) -> float:
    """Return the tokens a second and GPU that steps of decoding give; `seconds` as `step_seconds` has them."""
    return rows / max(seconds["weights"] + seconds["cache"], seconds["arithmetic"])


def copies_need(situation: Situation, device: Device) -> int:
    """Return how many GPUs hold one copy of the weights for decoding, so that half of their memory is left for the cache."""
    weights = situation.machine.weight_bytes * situation.base.weights
    needed = math.ceil(weights / (device.memory / 2))
    return 1 << (needed - 1).bit_length()


def balance(method: Method, situation: Situation, loop: Loop, device: Device = H100, *, devices: int = 1) -> Balance:
    """Return at how many tokens a second sampling takes as long as an update, and whether decoding gets there.

        x = episodes · response / (seconds · GPUs),   r = a x / (1 - b x)

    With r rows on a GPU decoding gives r / (a + b r) tokens a second, where a is the time to read the weights and b that of one
    row's cache. No r is enough where b x ≥ 1, or where the arithmetic of a token takes longer than 1 / x.

    Args:
        method: that samples as it trains.
        situation: base, settings.
        loop: what an update asks for.
        device: a GPU.
        devices: GPUs that train and sample.
    """
    seconds = update_flops(method, situation, loop) / (devices * device.used * device.flops)
    needed = loop.episodes * loop.response / (seconds * devices)
    together = min(devices, copies_need(situation, device))
    one = step_seconds(situation, loop, device, rows=1, together=together)
    left = 1 - one["cache"] * needed
    is_enough = left > 0 and one["arithmetic"] * needed <= 1
    # what a GPU gets to draw: its share of an update, or as many as are drawn at once
    rows = max(1, min(situation.asked.rollout_rows or loop.episodes, -(-loop.episodes // devices)))
    bounds = step_seconds(situation, loop, device, rows=rows, together=together)
    reads = bounds["weights"] + bounds["cache"]
    bound = "arithmetic" if bounds["arithmetic"] > reads else max(("weights", "cache"), key=lambda name: bounds[name])
    return Balance(
        update_seconds=seconds,
        needed=needed,
        rows=max(1, math.ceil(one["weights"] * needed / left)) if is_enough else None,
        reached=tokens_a_second(bounds, rows=rows),
        bound=bound,
    )
