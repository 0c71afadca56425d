"""Where an update of ours goes: `python -m benchmarks.ppo_vs_trl.costs FOLDER OUT`.

One update under torch.profiler: seconds of matrix products (linear layers and attention), of everything else that torch does,
and of Python between them. Then the same products alone, each shape in a loop on warm operands: how far the update is from
what its matrix products cost. FLOPs are 2 m n k of each.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from benchmarks.ppo_vs_trl.ours import Sides

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"


def bare(call: Callable[[], Any], *, at_least: float = 0.004) -> float:
    """Return the least seconds of a call, over repetitions that together take at least so long."""
    call()
    times: list[float] = []
    while sum(times) < at_least or len(times) < 3:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def product(name: str, shapes: list[list[int]]) -> tuple[Callable[[], Any], float]:
    """Return one matrix product of these shapes, and its FLOPs."""
    operands = [torch.randn(shape) for shape in shapes if len(shape) > 1 or name.endswith("addmm")]
    left, right = operands[-2], operands[-1]
    flops = 2.0 * left.numel() * right.shape[-1]
    if name == "aten::addmm":
        return lambda: torch.addmm(operands[0], left, right), flops
    return lambda: torch.matmul(left, right), flops


def attention(shapes: list[list[int]], *, backward: bool) -> tuple[Callable[[], Any], float]:
    """Return attention of these shapes, forward or backward, and its FLOPs (causal where query and key are as long)."""
    first = 1 if backward else 0
    query, key, value = (torch.randn(shape, requires_grad=backward) for shape in shapes[first : first + 3])
    causal = query.shape[2] == key.shape[2]
    flops = 4.0 * query.numel() * key.shape[2] * (0.5 if causal else 1.0) * (2.5 if backward else 1.0)

    def forward() -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value, is_causal=causal)

    if not backward:
        return torch.no_grad()(forward), flops
    out = forward()
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (query, key, value), gradient, retain_graph=True), flops


def measure(folder: Path) -> dict[str, Any]:
    given = json.loads((folder / "settings.json").read_text())
    updates = Sides(folder, given, None).train(updates=3, seed=0)
    next(updates)
    started = time.perf_counter()
    next(updates)
    wall = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        next(updates)
    events = found.key_averages(group_by_input_shape=True)
    total = sum(event.self_cpu_time_total for event in events) / 1e6
    spent = {"linear": 0.0, "attention": 0.0}
    alone = {"linear": 0.0, "attention": 0.0}
    flops, others = 0.0, dict[str, float]()
    for event in events:
        seconds = event.self_cpu_time_total / 1e6
        if event.key in PRODUCTS:
            kind, (call, each) = "linear", product(event.key, [shape for shape in event.input_shapes if shape])
        elif event.key in (ATTENTION, f"{ATTENTION}_backward"):
            kind, (call, each) = "attention", attention(event.input_shapes, backward=event.key != ATTENTION)
        else:
            others[event.key] = others.get(event.key, 0.0) + seconds
            continue
        spent[kind] += seconds
        alone[kind] += event.count * bare(call)
        flops += event.count * each
    largest = sorted(others.items(), key=lambda item: -item[1])[:12]
    return {
        "wall": wall,
        "in_torch": total,
        "spent": spent,
        "alone": alone,
        "gflop": flops / 1e9,
        "quotient": wall / sum(alone.values()),
        "others": [[name, seconds / total] for name, seconds in largest],
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(Path(sys.argv[1]))))
