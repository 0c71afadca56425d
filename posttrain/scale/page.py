"""What a base takes on so many GPUs, in words: what `make scale` prints, and the tables of docs/scale.md."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from posttrain.advice.memory import Memory, evaluation_memory, memory_of, reward_model_memory, trained_parts
from posttrain.advice.situation import Asked, Base, Machine, Situation
from posttrain.methods import METHODS, Method
from posttrain.scale.rates import GB, H100, Balance, Device, Loop, balance, sync_bytes

MOST = 1024
"""GPUs up to which the smallest number that holds a training is looked for."""


@dataclass(frozen=True)
class Plan:
    """What is asked of a row of a table.

    Attributes:
        title: what is trained.
        memory: of a situation.
        asked: what the settings ask for, of one process.
    """

    title: str
    memory: Callable[[Situation], Memory]
    asked: Asked


def planned(base: Base, asked: Asked, *, gpus: int, device: Device = H100, prompt: int, response: int) -> Situation:
    """Return a situation on GPUs that share the weights, products in bfloat16, each row as long as prompt and response.

    Args:
        base: the model.
        asked: settings, of one process.
        gpus: one process each.
        device: a GPU.
        prompt: tokens.
        response: tokens.
    """
    return Situation(
        base=base,
        machine=Machine(has_gpu=True, memory=round(device.memory), weight_bytes=2),
        prompt_tokens=prompt,
        long_response_tokens=response,
        asked=replace(asked, processes=gpus, is_sharded=gpus > 1),
    )


def plans_of(asked: Mapping[bool, Asked]) -> list[Plan]:
    """Return a plan for each trainer, with all weights and with adapters.

    Args:
        asked: what the settings ask for; by whether adapters are trained.
    """
    plans = []
    for is_lora, settings in asked.items():
        tail = ", LoRA" if is_lora else ""
        own, shared = (replace(settings, has_shared_critic=is_shared) for is_shared in (False, True))
        rows: list[tuple[str, Callable[[Situation], Memory], Asked]] = [
            ("SFT", _of("sft"), settings),
            ("DPO", _of("dpo"), settings),
            ("KTO", _of("kto"), settings),
            ("reward model", reward_model_memory, settings),
            ("PPO, critic of its own", _of("reft"), own),
            ("PPO, shared critic", _of("reft"), shared),
            ("PPO, shared critic and a reward model", _of("rlhf"), shared),
            ("GRPO, RLOO", _of("grpo"), settings),
        ]
        plans += [Plan(title + tail, memory, of_row) for title, memory, of_row in rows]
    return plans


def _of(name: str) -> Callable[[Situation], Memory]:
    return lambda situation: memory_of(METHODS[name], situation)


def memory_table(
    base: Base, plans: Sequence[Plan], *, gpus: Sequence[int], device: Device = H100, prompt: int, response: int
) -> str:
    """Return the table of what each training takes of a GPU, GB, with its largest part where it does not fit.

    Args:
        base: the model.
        plans: a row each.
        gpus: a column each; the weights are shared out where there are several.
        device: a GPU.
        prompt: tokens of a prompt.
        response: tokens of a response.
    """

    def memory(plan: Plan, count: int) -> Memory:
        return plan.memory(planned(base, plan.asked, gpus=count, device=device, prompt=prompt, response=response))

    titles = ["1 GPU" if count == 1 else f"{count} GPUs" for count in gpus]
    lines = [
        f"| GB of each GPU | {' | '.join(titles)} | fits from |",
        "|---|" + "---|" * (len(gpus) + 1),
    ]
    for plan in plans:
        cells = [_cell(memory(plan, count), device) for count in gpus]
        enough = (count for count in _doubled(MOST) if memory(plan, count).training <= device.memory)
        first = next(enough, None)
        limit = f"{first}" if first else f"never: {memory(plan, MOST).largest}"
        lines.append(f"| {plan.title} | {' | '.join(cells)} | {limit} |")
    # evaluation runs in one process, whatever trains
    size = evaluation_memory(planned(base, plans[0].asked, gpus=1, device=device, prompt=prompt, response=response))
    fits = size <= device.memory
    cells = [f"**{size / GB:,.0f}**" if fits else f"{size / GB:,.0f}: two models"] * len(gpus)
    return "\n".join([*lines, f"| evaluation | {' | '.join(cells)} | {'1' if fits else 'never: one process'} |"])


def _cell(memory: Memory, device: Device) -> str:
    size = f"{memory.training / GB:,.0f}"
    return f"**{size}**" if memory.training <= device.memory else f"{size}: {memory.largest}"


def _doubled(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length())]


def rates_table(base: Base, asked: Mapping[bool, Asked], loop: Loop, *, gpus: Sequence[int], device: Device = H100) -> str:
    """Return the table of sampling against training, for PPO with a shared critic.

    Args:
        base: the model.
        asked: what the settings ask for; by whether adapters are trained.
        loop: what an update asks for.
        gpus: a pair of rows each.
        device: a GPU.
    """
    lines = [
        "| GPUs | trained | an update without sampling, s | tokens/s a GPU for sampling to take as long | rows a GPU for that "
        "| tokens/s with the settings' rows | bound | a sync, GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count in gpus:
        for is_lora, settings in asked.items():
            shared = replace(settings, has_shared_critic=True, rollout_rows=-(-loop.episodes // count))
            situation = planned(base, shared, gpus=count, device=device, prompt=loop.prompt, response=loop.response)
            found = balance(METHODS["reft"], situation, loop, device, devices=count)
            lines.append(
                f"| {count} | {'LoRA' if is_lora else 'all weights'} | {_number(found.update_seconds)} | {_number(found.needed)} "
                f"| {_rows(found)} | {_number(found.reached)} | {found.bound} | {sync_bytes(situation) / GB:,.0f} |"
            )
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _rows(found: Balance) -> str:
    return "no number is enough" if found.rows is None else f"{found.rows:,}"


def report(method: Method, situation: Situation, loop: Loop, device: Device) -> list[str]:
    """Return what one method takes of each GPU, part by part, and how sampling stands against training; lines.

    Args:
        method: that is asked for.
        situation: as `planned` makes it.
        loop: what an update asks for, where the method samples.
        device: a GPU.
    """
    asked, memory = situation.asked, memory_of(method, situation)
    gpus = asked.processes
    how = (
        f"{gpus} GPUs of {device.memory / GB:,.0f} GB that share the weights" if gpus > 1 else f"one GPU of {_gb(device.memory)}"
    )
    lines = [f"{method.title} on {situation.base.name}, {how}, rows of {situation.sequence_tokens:,} tokens"]
    for name, size in memory.parts.items():
        made_of = _made_of(situation) if name == "trained network" else ""
        lines.append(_line(name, size, made_of))
    for phase, parts in memory.phases.items():
        lines.append(_line(f"{phase} adds", sum(parts.values()), _listed(parts)))
    fits = memory.training <= device.memory
    verdict = "it fits" if fits else f"it does not fit, most of all for: {memory.largest}"
    lines.append(_line("of each GPU", memory.training, f"of {_gb(device.memory)}: {verdict}"))
    lines.append(_line("evaluation", evaluation_memory(situation), "two models and a cache, in one process"))
    if not method.is_rewarded:
        return lines
    found = balance(method, situation, loop, device, devices=gpus)
    enough = f"{found.rows:,} rows at once are enough" if found.rows else "no number of rows is enough"
    return [
        *lines,
        f"a weight sync hands {_gb(sync_bytes(situation))} to a rollout engine ({sync_bytes(situation) / device.link:.1f} s by "
        "NVLink)",
        f"an update of {loop.episodes:,} responses takes {_number(found.update_seconds)} s without sampling",
        f"sampling takes as long at {_number(found.needed)} tokens a second and GPU: {enough}; with the settings' rows decoding "
        f"gives at most {_number(found.reached)}, bound by {found.bound}",
    ]


def _made_of(situation: Situation) -> str:
    return _listed(trained_parts(situation))


def _listed(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size / GB:,.1f}" for name, size in parts.items() if size)


def _line(name: str, size: int, more: str) -> str:
    return f"  {name:<20} {size / GB:>9,.1f} GB  {more}".rstrip()


def _gb(size: float) -> str:
    return f"{size / GB:,.0f} GB"
