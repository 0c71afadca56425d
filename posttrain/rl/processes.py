"""What the processes of one training run tell each other."""

from dataclasses import fields
from functools import reduce

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from posttrain.compute import Compute
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Episodes


def of_all(figures: Tensor) -> Tensor:
    """Return all processes' figures, (tokens,) each, in the order of the processes; every one of them must ask for it."""
    told: list[Tensor] = gather_object([figures.cpu()])
    return torch.cat(told).to(figures.device)


def shared(episodes: Episodes, rewards: Rewards, *, pad_id: int) -> tuple[Episodes, Rewards]:
    """Return all processes' episodes and rewards, in the order of the processes."""
    device = episodes.ids.device
    mine = {field.name: getattr(episodes, field.name).cpu() for field in fields(episodes)}
    told: list[tuple[dict[str, Tensor], Rewards]] = gather_object([(mine, rewards)])
    whole = {}
    for name, tensor in mine.items():
        pieces = [piece[name] for piece, _ in told]
        if tensor.ndim == 2:
            longest = max(piece.shape[1] for piece in pieces)
            filler = pad_id if name == "ids" else 0
            pieces = [nn.functional.pad(piece, (0, longest - piece.shape[1]), value=filler) for piece in pieces]
        whole[name] = torch.cat(pieces).to(device)
    return Episodes(**whole), Rewards(
        values=[value for _, one in told for value in one.values],
        parts={name: [value for _, one in told for value in one.parts[name]] for name in rewards.parts},
        reasons=[reason for _, one in told for reason in one.reasons],
        compute=reduce(Compute.plus, (one.compute for _, one in told)),
    )
