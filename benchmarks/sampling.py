"""How quickly responses are sampled from a model of real size, against `transformers.generate` and against its products alone.

    python -m benchmarks.sampling [base=folder] [prompts=32] [prompt_tokens=32] [new_tokens=48] [pairs=3]
                                  [threads=1,2] [dtypes=float32,bfloat16]

In turn within one process: our sampler, `generate` (no top-k, no top-p, as many tokens), and the matrix products of the same
work with weights laid out beforehand, which no sampler can be quicker than. Prints tokens a second, and ratios pair by pair,
by the clock and by seconds of processor time: where a machine has other work, the latter mean more. bfloat16 is left out where
the processor has no instructions for it, unless it is asked for. Last, how far the log-probabilities of the drawn tokens lie
from those of a plain forward pass in float32. Without `base`, weights are random, of the shape of SmolLM2-135M.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

from flows.environment import LARGE, keep_freed_memory
from models.decoder import Decoder
from models.load import has_bfloat16
from models.sampler import sample

CPU = torch.device("cpu")
SHAPE = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1_536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def network(base: str) -> Any:
    """Return the model of a folder, or one of random weights, in float32."""
    torch.manual_seed(0)
    if not base:
        return LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True).eval()


class Work:
    """Prompts of random tokens, and how many are drawn for each."""

    def __init__(self, model: Any, *, prompts: int, prompt_tokens: int, new_tokens: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.model = model
        self.prompts = torch.randint(4, model.config.vocab_size, (prompts, prompt_tokens), generator=draw)
        self.chance = torch.rand(prompts, new_tokens, generator=draw)
        self.tokens = self.chance.numel()

    def ours(self) -> Any:
        context = self.prompts.shape[1] + self.chance.shape[1]
        return sample(
            self.model,
            self.prompts.tolist(),
            self.chance,
            temperature=1.0,
            end_ids=(),  # none ends, so that both draw as much
            pad_id=0,
            context=context,
            batch_size=len(self.prompts),
        )

    def theirs(self) -> Any:
        longest = self.chance.shape[1]
        config = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=longest, pad_token_id=0)
        kept, self.model.generation_config = self.model.generation_config, GenerationConfig()
        try:
            return self.model.generate(self.prompts, attention_mask=torch.ones_like(self.prompts), generation_config=config)
        finally:
            self.model.generation_config = kept

    def products(self, weights: Decoder) -> None:
        """Multiply as often, with as many rows, as the prompts and then each drawn token but the last do."""
        rows, prompt_tokens = self.prompts.shape
        drawn_products(weights, self.model.config, rows=rows, prompt_tokens=prompt_tokens, new_tokens=self.chance.shape[1])


def drawn_products(weights: Decoder, config: Any, *, rows: int, prompt_tokens: int, new_tokens: int) -> None:
    """Multiply what drawing takes: all tokens of the prompts, then a row a response for each new token but the last."""
    for tokens, times in ((rows * prompt_tokens, 1), (rows, new_tokens - 1)):
        wide = torch.randn(tokens, config.hidden_size).to(weights.kind)
        heads = torch.randn(tokens, weights.heads * weights.width).to(weights.kind)
        between = torch.randn(tokens, config.intermediate_size).to(weights.kind)
        for _ in range(times):
            for layer in weights.layers:
                layer.heads(wide), layer.out(heads), layer.gate_and_up(wide), layer.down(between)
            weights.head(wide[:rows])


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - processor


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


@torch.no_grad()
def compared(work: Work, kind: torch.dtype, *, pairs: int) -> Table:
    """Time the three in turn, after one unmeasured pass of each."""
    calls = {"ours": work.ours, "generate": work.theirs}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in (*calls, "products", "layout")}
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        for call in calls.values():
            call()
        for _ in range(pairs):
            for name, call in calls.items():
                seconds[name].append(timed(call))
            laid_out = partial(Decoder, work.model, kind=kind, rows=len(work.prompts))
            seconds["layout"].append(timed(laid_out))
            seconds["products"].append(timed(partial(work.products, laid_out())))
    name = f"{str(kind).removeprefix('torch.')}, {torch.get_num_threads()} threads, {len(work.prompts)} prompts"
    table = Table(title=f"{name} of {work.prompts.shape[1]} tokens, {work.chance.shape[1]} new", title_justify="left")
    for column in (
        "what",
        "tokens/s",
        "times as quick as generate: clock",
        "processor",
        "times the products: clock",
        "processor",
    ):
        table.add_column(column)
    for what in calls:
        ratios = [
            [one[place] / other[place] for one, other in zip(seconds[upper], seconds[lower], strict=True)]
            for upper, lower in (("generate", what), (what, "products"))
            for place in (0, 1)
        ]
        table.add_row(what, f"{work.tokens / median(one[0] for one in seconds[what]):.0f}", *map(spread, ratios))
    layout = median(one[1] for one in seconds["layout"]) / median(one[1] for one in seconds["ours"])
    table.caption = f"laying the weights out takes {layout:.1%} of our processor time"
    return table


@torch.no_grad()
def apart(work: Work) -> float:
    """Return the largest difference of a drawn token's log-probability from that of a plain forward pass, nats."""
    told = work.ours()
    worst = 0.0
    for prompt, response, logprob in zip(work.prompts, told.responses, told.logprobs, strict=True):
        ids = torch.cat([prompt, torch.tensor(response)])
        logits = work.model(input_ids=ids[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
        own = logits.float().log_softmax(-1).gather(1, ids[len(prompt) :, None])[:, 0]
        worst = max(worst, (own - logprob).abs().max().item())
    return worst


def main(words: list[str]) -> None:
    given = dict(word.partition("=")[::2] for word in words)
    keep_freed_memory(mapped_from=LARGE)  # as a run with a real model does
    sizes = {name: int(given.get(name, size)) for name, size in (("prompts", 32), ("prompt_tokens", 32), ("new_tokens", 48))}
    kinds = given.get("dtypes", "float32,bfloat16" if has_bfloat16(CPU) else "float32")
    console = Console(width=130)
    console.print(f"{torch.backends.cpu.get_cpu_capability()}, bfloat16 instructions: {'yes' if has_bfloat16(CPU) else 'no'}")
    work = Work(network(given.get("base", "")), **sizes)
    for kind in kinds.split(","):
        for threads in given.get("threads", "1,2").split(","):
            torch.set_num_threads(int(threads))
            console.print(compared(work, getattr(torch, kind), pairs=int(given.get("pairs", "3"))))
    console.print(f"log-probabilities of the drawn tokens in float32: at most {apart(work):.1e} nats from a plain forward pass")


if __name__ == "__main__":
    main(sys.argv[1:])
