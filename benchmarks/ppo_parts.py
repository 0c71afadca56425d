"""What the parts of a PPO update gain: packing, the size of parts, memory that is kept, and products with few rows.

    python -m benchmarks.ppo_parts [repeats=20]

Times, in turn within one process (kept memory: two processes), one mini-batch of 64 episodes of the default size through
policy and critic, forward and backward: packed, and padded in parts of like length; and a linear layer of a Llama of 30 M
weights with few rows, as x Wᵀ and as (W xᵀ)ᵀ. Prints medians with the least and the most, and ratios to the first row.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from random import Random
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from flows.environment import keep_freed_memory
from models import policy as policies
from models.packed import NAME, Packing
from models.policy import PolicyAndCritic, policy_and_critic
from models.tiny import network
from posttrain.settings.model import TinySettings

EPISODES = 64
GROUPS = (8, 16, 32, 64)
PARTS = (64, 32, 16)
ROWS = (1, 4, 16, 32, 48, 64)
SHAPES = ((384, 384), (384, 1_024), (1_024, 384), (384, 32_000))


def timed(calls: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Return milliseconds of each call, made in turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            found[name].append(1_000 * (time.perf_counter() - started))
    return found


def table(title: str, found: dict[str, list[float]]) -> Table:
    made = Table(title=title, title_justify="left")
    for column in ("what", "ms: median (least–most)", "ratio to the first"):
        made.add_column(column)
    first = median(next(iter(found.values())))
    for name, times in found.items():
        made.add_row(name, f"{median(times):.2f} ({min(times):.2f}–{max(times):.2f})", f"{median(times) / first:.2f}")
    return made


class MiniBatch:
    """Episodes with lengths as the default world has them."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        draw = Random(0)
        self.prompt = torch.tensor([draw.randint(12, 22) for _ in range(EPISODES)])
        self.response = torch.tensor([draw.randint(5, 40) for _ in range(EPISODES)])
        self.ids = torch.randint(2, 50, (EPISODES, int((self.prompt + self.response).max())))

    def through(self, made: PolicyAndCritic, rows: torch.Tensor) -> None:
        time_ = int((self.prompt + self.response)[rows].max())
        told = made(
            self.ids[rows, :time_],
            self.prompt[rows],
            self.response[rows],
            temperature=1.0,
            want=frozenset({"logprob", "value"}),
        )
        (torch.as_tensor(told.logprob).sum() + torch.as_tensor(told.value).sum()).backward()


def networks() -> tuple[PolicyAndCritic, PolicyAndCritic]:
    """Return a packing and a padding network of the default size."""
    made = []
    for implementation in (NAME, "sdpa"):
        torch.manual_seed(0)
        one = policy_and_critic(network(TinySettings(), vocabulary=65, context=512, pad=0, eos=1), critic="separate")
        for part in (one.policy, one.critic):
            part.set_attn_implementation(implementation)  # type: ignore[union-attr]
        made.append(one)
    return made[0], made[1]


def layouts(*, repeats: int) -> dict[str, list[float]]:
    batch, (packing, padding) = MiniBatch(), networks()
    order = (batch.prompt + batch.response).argsort()

    def packed(group: int) -> Callable[[], None]:
        def call() -> None:
            policies.Packing = Grouped(group)  # type: ignore[assignment, misc]
            batch.through(packing, torch.arange(EPISODES))
            packing.zero_grad()

        return call

    def padded(size: int) -> Callable[[], None]:
        def call() -> None:
            for rows in order.split(size):
                batch.through(padding, rows)
            padding.zero_grad()

        return call

    calls = {f"packed, attention in groups of {group}": packed(group) for group in GROUPS}
    calls |= {f"padded, in parts of {size}": padded(size) for size in PARTS}
    return timed(calls, repeats=repeats)


class Grouped:
    """`Packing` with another size of groups."""

    def __init__(self, group: int) -> None:
        self.group = group

    def of(self, lengths: torch.Tensor) -> Packing:
        return Packing.of(lengths, group=self.group)


@torch.no_grad()
def products(*, repeats: int) -> list[Table]:
    tables = []
    for inner, outer in SHAPES:
        # as many weights as do not fit a cache, in turn, as the layers of a model come
        weights = [torch.randn(outer, inner) for _ in range(max(1, 15_000_000 // (inner * outer)))]
        for rows in ROWS:
            x = torch.randn(rows, inner)
            calls = {
                "x Wᵀ": lambda x=x, weights=weights: [torch.nn.functional.linear(x, weight) for weight in weights],
                "(W xᵀ)ᵀ": lambda x=x, weights=weights: [(weight @ x.t()).t().contiguous() for weight in weights],
            }
            each = {
                name: [ms / len(weights) for ms in times] for name, times in timed(calls, repeats=max(3, repeats // 4)).items()
            }
            tables.append(table(f"{rows} rows, {inner} → {outer}", each))
    return tables


def main(words: list[str]) -> None:
    given = dict(word.partition("=")[::2] for word in words)
    repeats = int(given.get("repeats", "20"))
    if given.get("memory"):
        if given["memory"] == "kept":
            keep_freed_memory()
        batch, (packing, _) = MiniBatch(), networks()
        found = timed({"": lambda: (batch.through(packing, torch.arange(EPISODES)), packing.zero_grad())}, repeats=repeats)
        print(*found[""])
        return
    console = Console(width=110)
    console.print(table("a mini-batch of 64 episodes, forward and backward", layouts(repeats=repeats)))
    memory = {}
    for _ in range(2):
        for how in ("kept", "returned"):
            command = [sys.executable, "-m", "benchmarks.ppo_parts", f"memory={how}", f"repeats={repeats}"]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            memory.setdefault(f"freed memory {how}", []).extend(map(float, told.split()))
    console.print(table("the same, packed", memory), *products(repeats=repeats))


if __name__ == "__main__":
    main(sys.argv[1:])
