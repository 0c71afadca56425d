"""What several processes compute with whole weights and with parts of them; apart, so that each process imports little."""

import torch
from accelerate.utils import gather_object

from models import policy_layout
from models.lora import adapted
from models.policy import policy_and_critic
from models.policy_layout import ReplicatedPolicy, ShardedPolicy
from models.processes import rank
from models.sharding import shard
from posttrain.errors import ContractError
from posttrain.rl.grpo import GroupRelative
from posttrain.rl.rloo import LeaveOneOut
from posttrain.settings.grpo import GRPOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.rloo import RLOOSettings
from tasks.workspace.artifacts import Outcome
from tests.tiny_ppo import figures, llama, run, sampler

CASES = {
    "separate": {"critic": "separate", "fits_values": True, "max_grad_norm": 0.5},
    "shared": {"critic": "shared", "reward_scale": "running"},
    "separate lora": {"critic": "separate", "lora_rank": 4},
    "grpo": {"critic": "none", "method": "grpo"},
    "grpo lora": {"critic": "none", "method": "grpo", "lora_rank": 4},
    "rloo": {"critic": "none", "method": "rloo"},
}
ESTIMATORS = {
    "grpo": lambda: GroupRelative(GRPOSettings(num_generations=4)),
    "rloo": lambda: LeaveOneOut(RLOOSettings(num_generations=4)),
}
HOW = {"updates": 2, "epochs": 1, "device_batch_size": 3}
"""A process's part of a mini-batch, 4 episodes, is taken in two, of 3 and of 1."""


def network(critic, lora_rank=0):
    """Return a tiny policy and critic, with adapters of a seed where a rank says so."""
    model = ModelSettings(lora_rank=lora_rank)

    def adapters(inner):
        return adapted(inner, model, task="CAUSAL_LM" if hasattr(inner, "lm_head") else None, seed=1)

    return policy_and_critic(llama(), critic=critic, adapters=adapters if lora_rank else None)


def trained(layout, *, critic, lora_rank=0, method="", **settings):
    estimator = ESTIMATORS[method]() if method else None
    return run(network(critic, lora_rank), critic=critic, estimator=estimator, layout=layout, **HOW, **settings)


def compare(out, log):
    """Let the first process write what each case comes to with whole weights and with parts, and what every process holds."""
    told = {}
    for name, case in CASES.items():
        sharded = []
        policy_layout.shard = lambda module, sharded=sharded, **how: sharded.append(module) or shard(module, **how)
        ways = {"whole": trained(ReplicatedPolicy, **case), "parts": trained(ShardedPolicy, **case)}
        policy_layout.shard = shard
        told[name] = {way: figures(made) | {"state": made.states[-1]} for way, made in ways.items()}
        start = network(case["critic"], case.get("lora_rank", 0))
        told[name]["start"] = {weight: value.detach() for weight, value in start.named_parameters()}
        told[name]["held"] = gather_object([[share_of(module) for module in sharded]])
    if rank() == 0:
        torch.save(told, out / "told.pt")
    return Outcome()


def share_of(module):
    """Return the share of a network's weights that this process holds."""
    weights = list(module.parameters())
    return sum(weight.to_local().numel() for weight in weights) / sum(weight.numel() for weight in weights)


def disagree(out, log):
    """Sample at another temperature on one process alone, and let the first process write what error each came to."""
    made = network("separate")
    held = ShardedPolicy(made)
    try:
        run(made, layout=lambda _: held, draw=sampler(made, held, temperature=1.0 if rank() else 0.5), temperature=0.5, **HOW)
    except ContractError as error:
        said = gather_object([str(error)])
    if rank() == 0:
        torch.save(said, out / "said.pt")
    return Outcome()
