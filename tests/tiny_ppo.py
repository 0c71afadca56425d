"""A Llama of a few thousand weights, questions for it, and PPO on both; run as a module, one process of several."""

import copy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import LlamaConfig, LlamaForCausalLM

from models.checkpointing import with_cache
from models.policy import PolicyAndCritic, policy_and_critic
from models.policy_layout import ReplicatedPolicy
from models.sampler import sample
from models.sharding import whole
from posttrain.rl.ppo import Update, ppo
from posttrain.rl.rewards import Rewards
from posttrain.settings.ppo import PPOSettings

PAD, EOS, GOOD, VOCABULARY, CONTEXT, SEED = 0, 1, 5, 16, 24, 3
QUESTIONS = [[2 + (7 * place + 3 * place * token) % 14 for token in range(1 + place % 5)] for place in range(12)]
SETTINGS = {
    "updates": 2,
    "episodes": 16,
    "mini_batch_size": 8,
    "device_batch_size": 8,
    "max_new_tokens": 6,
    "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "kl_coef": 0.05,
    "min_finished": 0.0,
    "max_length_growth": 100.0,
}


def llama(*, seed: int = 0, kind: type = LlamaForCausalLM, **changes: Any) -> Any:
    """Return a network whose predictions are far from even."""
    torch.manual_seed(seed)
    return kind(
        LlamaConfig(
            **{
                "vocab_size": VOCABULARY,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "max_position_embeddings": 64,
                "pad_token_id": PAD,
                "eos_token_id": EOS,
                "bos_token_id": None,
                "initializer_range": 0.4,
                **changes,
            }
        )
    )


def score(asked, responses):
    """Pay for each GOOD token, as a share of the response."""
    share = [sum(token == GOOD for token in response) / len(response) for response in responses]
    return Rewards(values=share, parts={"short": [float(len(one) < 4) for one in responses]}, reasons=[str(one) for one in asked])


def sampler(network: PolicyAndCritic, held=None, **changes: Any):
    """Return what draws responses to QUESTIONS from the network's policy as it then is, however it is held."""
    how = {"temperature": 1.0, "end_ids": (EOS,), "pad_id": PAD, "context": CONTEXT, "batch_size": 5, **changes}

    def draw(asked, chance):
        prompts = [QUESTIONS[question] for question in asked]
        with (held or ReplicatedPolicy(network)).policy() as policy, with_cache(policy):
            return prompts, sample(policy, prompts, chance, **how)

    return draw


@dataclass
class Run:
    """PPO on the tiny network, update by update."""

    network: PolicyAndCritic
    settings: PPOSettings
    updates: list[Update] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {name: whole(weight.detach()).clone() for name, weight in self.network.named_parameters()}

    def metric(self, name: str) -> list[float]:
        return [update.metrics[f"ppo/{name}"] for update in self.updates]


def run(
    network=None,
    *,
    reference=None,
    draw=None,
    reward=score,
    state=None,
    pad_id: int = PAD,
    seed: int = SEED,
    critic="separate",
    estimator=None,
    fits_values: bool = False,
    layout=ReplicatedPolicy,
    **settings: Any,
) -> Run:
    """Train and return every update, with a copy of its state; with an estimator that has no critic, `critic` is "none"."""
    network = network or policy_and_critic(llama(), critic=critic)
    chosen = PPOSettings(**{**SETTINGS, **settings} | ({} if critic == "none" else {"critic": critic}))
    made, held = Run(network, chosen), layout(network)
    for update in ppo(
        network,
        reference=reference or held.reference(temperature=chosen.temperature),
        sample=draw or sampler(network, held, temperature=chosen.temperature),
        score=reward,
        questions=len(QUESTIONS),
        pad_id=pad_id,
        settings=chosen,
        accelerator=Accelerator(cpu=True),
        seed=seed,
        estimator=estimator,
        state=state,
        fits_values=fits_values,
        layout=held,
    ):
        made.updates.append(update)
        made.states.append(copy.deepcopy(update.state()))
    return made


def figures(made: Run) -> dict[str, Any]:
    """Return what two runs are compared by."""
    return {
        "metrics": [dict(update.metrics) for update in made.updates],
        "asked": [list(update.asked) for update in made.updates],
        "ids": [update.episodes.ids for update in made.updates],
        "rewards": [
            [list(update.rewards.values), dict(update.rewards.parts), list(update.rewards.reasons)] for update in made.updates
        ],
        "weights": made.weights,
    }


if __name__ == "__main__":  # python -m tests.tiny_ppo FILE NAME=VALUE…, with Accelerate's variables set
    torch.set_num_threads(1)
    chosen = {name: int(value) if value.isdigit() else value for name, value in (word.split("=") for word in sys.argv[2:])}
    told = figures(run(**chosen))
    if Accelerator(cpu=True).is_main_process:
        torch.save(told, Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
