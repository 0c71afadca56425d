"""Our arithmetic on the tensors of TRL's own training loop: `python -m benchmarks.ppo_vs_trl.fixed FOLDER TENSORS OUT`.

Each row is our function on what TRL's loop had in hand (theirs.py, `dump`), against what the loop made of it. Where we differ on
purpose, the row says how to turn one into the other, and the two agree then; the plain difference stands beside it.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.ppo_vs_trl.ours import network_of
from posttrain.ops.logprobs import taken_logprobs
from posttrain.ops.losses import clipped_policy_loss, clipped_value_loss, kl_k1
from posttrain.ops.masks import padded, token_weights, unflattened
from posttrain.rl.advantages import generalised_advantages, whitened
from posttrain.rl.rewards import token_rewards

TEMPERATURE = 0.7
"""What theirs.py dumps at: one at which a forgotten division would show."""
THEIR_TEMPERATURE = TEMPERATURE + 1e-7
"""TRL adds this much, so that a temperature of 0 divides by something."""
ALLOWED = 1e-5


class Comparisons:
    """Rows of what was compared, with the largest difference, absolute for figures up to 1 and relative above."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, what: str, ours: Tensor, theirs: Tensor, *, plain: Tensor | None = None, binds: bool = True) -> None:
        self.rows.append(
            {
                "what": what,
                "figures": ours.numel(),
                "difference": _apart(ours, theirs),
                "plain_difference": None if plain is None else _apart(plain, theirs),
                "binds": binds,
            }
        )


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs() / theirs.abs().clamp(min=1.0)).max().item()


def compare(folder: Path, told: Mapping[str, Tensor]) -> list[dict[str, object]]:
    given = json.loads((folder / "settings.json").read_text())
    found = Comparisons()
    _compare_rollout(found, told, given)
    for moment in ("first", "last"):
        _compare_losses(found, told, given, moment)
    _compare_network(found, told, folder)
    return found.rows


def _compare_rollout(found: Comparisons, told: Mapping[str, Tensor], given: Mapping[str, float]) -> None:
    loop = {name.removeprefix("first."): tensor for name, tensor in told.items() if name.startswith("first.")}
    is_response, is_valued = ~loop["padding_mask"], ~loop["padding_mask_p1"]
    raw = told["generated.logits"] * THEIR_TEMPERATURE
    logprob = taken_logprobs(raw[is_response], loop["responses"][is_response], temperature=TEMPERATURE)[0]
    found.add("log-probabilities of the samples", logprob, loop["logprobs"][is_response])
    kl = kl_k1(loop["logprobs"], loop["ref_logprobs"])
    found.add("KL, k1", kl, loop["kl"])
    lengths = is_response.sum(dim=1)
    longest = is_response.shape[1]
    moved = (lengths + 1).clamp(max=longest)
    reward, ours = (
        token_rewards(loop["scores"], where, longest=longest) - given["kl_coef"] * kl.masked_fill(~is_response, 0.0)
        for where in (moved, lengths)
    )
    found.add("rewards, score one place later as TRL has it", reward, loop["rewards"], plain=ours)
    how = {"gamma": given["gamma"], "gae_lambda": given["gae_lambda"]}
    advantage, returns = generalised_advantages(loop["rewards"], loop["values"], is_valued, **how)
    plain, _ = generalised_advantages(ours, loop["values"], is_response, **how)
    response = is_response.float()
    found.add(
        "advantages (GAE), with TRL's value after EOS",
        advantage * response,
        told["whiten.values"] * response,
        plain=plain * response,
    )
    found.add("returns, with TRL's value after EOS", returns[is_valued], loop["returns"][is_valued])
    count = int(is_response.sum())
    white = whitened(told["whiten.values"], is_response)
    bessel = ((count - 1) / count) ** 0.5
    ours, theirs = white[is_response], loop["advantages"][is_response]
    found.add("whitened advantages, × √((n-1)/n)", ours * bessel, theirs, plain=ours)


def _compare_losses(found: Comparisons, told: Mapping[str, Tensor], given: Mapping[str, float], moment: str) -> None:
    loop = {name.removeprefix(f"{moment}."): tensor for name, tensor in told.items() if name.startswith(f"{moment}.")}
    rows = loop["rows"]
    is_response, is_valued = ~loop["padding_mask"][rows], ~loop["padding_mask_p1"][rows]
    raw = (loop["logits"] * THEIR_TEMPERATURE).requires_grad_()
    logprob = taken_logprobs(raw[is_response], loop["mb_responses"][is_response], temperature=TEMPERATURE)[0]
    found.add(f"log-probabilities in training, {moment} mini-batch", logprob.detach(), loop["new_logprobs"][is_response])
    policy = clipped_policy_loss(
        logprob,
        loop["mb_logprobs"][is_response],
        loop["mb_advantage"][is_response],
        token_weights(is_response.sum(dim=1), mean_over="tokens"),
        clip_range=given["clip_range"],
    )
    found.add(f"policy loss, {moment} mini-batch", policy.loss.detach(), loop["pg_loss"])
    (gradient,) = torch.autograd.grad(policy.loss, raw)
    found.add(f"its gradient in the logits, {moment} mini-batch", gradient * THEIR_TEMPERATURE, loop["logits_gradient"])
    estimate = loop["vpred"].clone().requires_grad_()

    def value_loss(where: Tensor) -> Tensor:
        return clipped_value_loss(
            estimate[where],
            loop["mb_values"][where],
            loop["mb_return"][where],
            token_weights(where.sum(dim=1), mean_over="tokens"),
            clip_range=given["value_clip_range"],
        ).loss

    loss = value_loss(is_valued)
    plain = value_loss(is_response).detach()
    found.add(f"value loss, TRL's place after EOS counted, {moment} mini-batch", loss.detach(), loop["vf_loss"], plain=plain)
    (gradient,) = torch.autograd.grad(loss * given["value_coef"], estimate)
    found.add(f"its gradient in the values, {moment} mini-batch", gradient, loop["value_gradient"])


def _compare_network(found: Comparisons, told: Mapping[str, Tensor], folder: Path) -> None:
    """Whole forward passes: ours padded on the right without a mask, TRL's on the left with one. Same tokens, other sums."""
    loop = {name.removeprefix("start."): tensor for name, tensor in told.items() if name.startswith("start.")}
    is_response = ~loop["padding_mask"]
    given = json.loads((folder / "settings.json").read_text())
    lengths = is_response.sum(dim=1)
    context = int(loop["context"])
    heads = [[token for token in row if token != given["pad_id"]] for row in loop["query_responses"][:, :context].tolist()]
    tails = [row[:length] for row, length in zip(loop["responses"].tolist(), lengths.tolist(), strict=True)]
    ids = padded([[*head, *tail] for head, tail in zip(heads, tails, strict=True)], with_value=given["pad_id"])
    network, _ = network_of(folder)
    with torch.no_grad():
        figures = network(
            ids,
            torch.tensor([len(head) for head in heads]),
            lengths,
            temperature=TEMPERATURE,
            want=frozenset({"logprob", "value"}),
        )
    for name, theirs in (("logprob", loop["logprobs"]), ("value", loop["values"])):
        ours = unflattened(getattr(figures, name), is_response)
        found.add(f"whole network, {name} of each token", ours[is_response], theirs[is_response], binds=False)


if __name__ == "__main__":
    torch.manual_seed(0)
    rows = compare(Path(sys.argv[1]), load_file(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(rows))
