"""An update of PPO on a model of real size, against the matrix products and the attention of the same work alone.

    python -m benchmarks.ppo_update [base=folder] [episodes=32] [prompt_tokens=48] [new_tokens=27] [mini_batch=32]
                                    [device_batch=8] [epochs=2] [pairs=3] [threads=2] [critic=shared] [dtype=float32]

In turn within one process: an update (sampling, reference and values, training), and its products. These are: for each drawn
token and the prompts before them, the linear layers with weights laid out beforehand; for each pass without gradient, linear
layers and attention of all tokens, the output layer of the response tokens; for training, the same forwards and backwards.
Nothing is added, normalised or updated there, so no update can be quicker. Responses end nowhere, so that both do as much.
Prints seconds, and ratios pair by pair. Without `base`, weights are random, of the shape of SmolLM2-135M.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.sampling import drawn_products, network, spread, timed
from flows.environment import keep_freed_memory
from models.decoder import Decoder
from models.policy import policy_and_critic, reference_logprobs
from models.sampler import sample
from posttrain.rl.ppo import ppo
from posttrain.rl.rewards import Rewards
from posttrain.settings.ppo import PPOSettings

DEFAULTS = {
    "base": "",
    "episodes": "32",
    "prompt_tokens": "48",
    "new_tokens": "27",
    "mini_batch": "32",
    "device_batch": "8",
    "epochs": "2",
    "pairs": "3",
    "threads": "2",
    "critic": "shared",
    "dtype": "float32",
}


class Work:
    """One update after the other, and the products of one."""

    def __init__(self, given: dict[str, str]) -> None:
        self.rows, self.prompt, self.new = int(given["episodes"]), int(given["prompt_tokens"]), int(given["new_tokens"])
        self.device_batch, self.epochs, self.critic = int(given["device_batch"]), int(given["epochs"]), given["critic"]
        self.settings = PPOSettings(
            updates=int(given["pairs"]) + 1,
            episodes=self.rows,
            mini_batch_size=int(given["mini_batch"]),
            device_batch_size=self.device_batch,
            epochs=self.epochs,
            critic=self.critic,
            max_new_tokens=self.new,
            learning_rate=1e-7,
            min_finished=0.0,
            patience=10**6,
        )
        self.model = network(given["base"])
        self.precision = "bf16" if given["dtype"] == "bfloat16" else "no"
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.weights = Decoder(self.model, kind=kind, rows=self.rows)  # laid out before any time is taken
        self.updates = self._updates()

    def _updates(self) -> Iterator[Any]:
        model, settings = self.model, self.settings
        draw = torch.Generator().manual_seed(0)
        prompts = torch.randint(4, model.config.vocab_size, (self.rows, self.prompt), generator=draw).tolist()
        made = policy_and_critic(model, critic=self.critic)  # type: ignore[arg-type]

        def drawn(asked: Sequence[int], chance: Tensor) -> Any:
            chosen = [prompts[question] for question in asked]
            how: dict[str, Any] = {"temperature": 1.0, "end_ids": (), "pad_id": 0, "context": self.prompt + self.new}
            return chosen, sample(made.policy, chosen, chance, **how, batch_size=64)

        score = torch.Generator().manual_seed(1)
        return iter(
            ppo(
                made,
                reference=reference_logprobs(made.policy, temperature=1.0),
                sample=drawn,
                score=lambda asked, responses: Rewards(values=torch.rand(len(asked), generator=score).tolist()),
                questions=self.rows,
                pad_id=0,
                settings=settings,
                accelerator=Accelerator(cpu=True, mixed_precision=self.precision),
                seed=0,
            )
        )

    def update(self) -> None:
        """Sample, score and train once."""
        next(self.updates)

    def products(self) -> None:
        """Multiply as much, forwards and backwards, and attend."""
        sizes = {"rows": self.rows, "prompt_tokens": self.prompt, "new_tokens": self.new}
        with torch.no_grad():
            drawn_products(self.weights, self.model.config, **sizes)
        passes = 2 if self.critic == "shared" else 3  # the reference's, and that for the values; a critic's own
        with torch.no_grad():
            for _ in range(passes - 1):
                self._read(learns=False, has_head=True)
            self._read(learns=False, has_head=False)
        for _ in range(self.epochs):
            self._read(learns=True, has_head=True)
            if self.critic != "shared":
                self._read(learns=True, has_head=False)

    def _read(self, *, learns: bool, has_head: bool) -> None:
        """Multiply what reading all sequences takes, a device batch at a time."""
        config, layers = self.model.config, self.model.model.layers
        length = self.prompt + self.new - 1
        for start in range(0, self.rows, self.device_batch):
            rows = min(self.device_batch, self.rows - start)
            wide = torch.randn(rows * length, config.hidden_size, requires_grad=learns)
            between = torch.randn(rows * length, config.intermediate_size, requires_grad=learns)
            for layer in layers:
                attention, mlp = layer.self_attn, layer.mlp
                outs = [linear(wide) for linear in (attention.q_proj, attention.k_proj, attention.v_proj)]
                heads = [out.view(rows, length, -1, attention.head_dim).transpose(1, 2).detach() for out in outs]
                query, key, value = (one.requires_grad_(learns) for one in heads)
                met = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
                outs += [met, attention.o_proj(met.detach().transpose(1, 2).reshape(rows * length, -1).requires_grad_(learns))]
                outs += [mlp.gate_proj(wide), mlp.up_proj(wide), mlp.down_proj(between)]
                _back(outs, learns)
            if has_head:
                _back([self.model.lm_head(wide[: rows * self.new].detach().requires_grad_(learns))], learns)


def _back(outs: Sequence[Tensor], learns: bool) -> None:
    """Go back through each product by itself, with a gradient of its own size."""
    if learns:
        torch.autograd.backward(list(outs), [out.detach() for out in outs])


def main() -> None:
    """Time pairs of an update and its products; the first update, which warms up, counts for nothing."""
    given = DEFAULTS | dict(argument.split("=", 1) for argument in sys.argv[1:])
    keep_freed_memory()
    torch.set_num_threads(int(given["threads"]))
    torch.manual_seed(0)
    work = Work(given)
    work.update(), work.products()
    seconds = []
    for _ in range(int(given["pairs"])):
        seconds.append((timed(work.update), timed(work.products)))
        work.model.zero_grad(set_to_none=True)
    table = Table("what", "seconds", "processor seconds", title=" ".join(f"{name}={value}" for name, value in given.items()))
    for place, name in enumerate(("update", "products")):
        table.add_row(name, *(spread([pair[place][kind] for pair in seconds]) for kind in (0, 1)))
    table.add_row("ratio", *(spread([pair[0][kind] / pair[1][kind] for pair in seconds]) for kind in (0, 1)))
    Console().print(table)


if __name__ == "__main__":
    main()
