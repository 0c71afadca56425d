"""What a run will likely take of the machine's memory, told before it starts: by the same sums as `make advise`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from posttrain.advice.memory import Memory, memory_of
from posttrain.advice.rule import GIB
from posttrain.advice.situation import Asked, Situation, percentile
from posttrain.data.lengths import WITHOUT_REFERENCES
from posttrain.errors import RequestError
from posttrain.methods import METHODS, Method
from posttrain.printable import counted
from posttrain.settings.config import Config
from tasks.base_model.identity import TINY
from tasks.workspace.jsonl import read_rows

QUANTIZED: dict[str, dict[str, Any]] = {
    "model.lora_rank=16 model.quantization=nf4": {"lora_rank": 16, "is_quantized": True},
}
"""Needs a GPU."""
LOOKED_AT = 500
"""Rows of each role whose lengths are counted: the 95th percentile of 500 is within 2 points of share."""


def check_memory(config: Config, folder: Path, say: Callable[[str], None]) -> None:
    """Tell what a run will likely take, where that is more than there is; nothing for the tiny base, which fits everywhere.

    Args:
        config: of the run; its base has been located.
        folder: of the dataset.
        say: prints a line.

    Raises:
        RequestError: weights, gradients and optimiser alone do not fit, or the base cannot be read.
    """
    if config.model.base != TINY:
        _check(config, situation_of_memory(config, folder), say)


def side_by_side(config: Config, runs: Iterable[Config], folder: Path, *, most: int, say: Callable[[str], None]) -> int:
    """Return how many runs of a comparison go side by side: on this machine fewer than `most` where memory holds fewer.

    Args:
        config: of the comparison. A cluster has memory of its own; a number that was asked for stands, with a warning.
        runs: those that something is left to do of; their base has been located. The first of each method is looked at.
        folder: of the dataset.
        most: runs that there are cores for, or that were asked for.
        say: prints a line.

    Raises:
        RequestError: one run alone does not fit, or the base cannot be read.
    """
    settings = config.compare
    if settings.runner != "processes" or config.model.base == TINY:
        return most
    needed, there = dict[str, int](), 0
    for run in runs:
        if run.row.title not in needed:
            situation = situation_of_memory(run, folder)
            _check(run, situation, say)
            needed[run.row.title], there = memory_of(run.row, situation).likely, situation.machine.memory
    if not needed:
        return most
    largest = max(needed, key=lambda title: needed[title])
    fits = max(1, there // needed[largest])
    if fits >= most:
        return most
    takes = f"a run takes up to about {needed[largest] / GIB:,.1f} GB ({largest}), and there are {there / GIB:,.1f} GB"
    if settings.workers:
        say(f"warning: compare.workers={settings.workers} runs at a time, and memory is for {fits}: {takes}")
        return most
    say(f"{counted(fits, 'run')} at a time in place of {most}: {takes}")
    return fits


def _check(config: Config, found: Situation, say: Callable[[str], None]) -> None:
    """Tell what a run will likely take of the memory, or refuse it.

    Raises:
        RequestError: weights, gradients and optimiser alone do not fit.
    """
    method = config.row
    needed, there = memory_of(method, found), found.machine.memory
    if needed.likely <= there:
        return
    parts = ", ".join(f"{name} {size / GIB:,.1f}" for name, size in needed.parts.items())
    takes = f"{method.title} on {config.model.base} takes about {needed.likely / GIB:,.1f} GB at its peak ({parts})"
    fits = ", or ".join(_fitting(method, found)) or "a smaller base, or a machine with more memory"
    if needed.least > there:
        raise RequestError(
            f"{takes}; its networks with gradients and optimiser alone are {needed.least / GIB:,.1f} GB, and there are "
            f"{there / GIB:,.1f} GB. What fits: {fits}"
        )
    say(f"warning: {takes}, and there are {there / GIB:,.1f} GB. What fits: {fits}")


def situation_of_memory(config: Config, folder: Path) -> Situation:
    """Return the facts that memory hangs on: base, machine, lengths of some rows, sizes of batches."""
    from models.load import context_length, load_tokenizer, prompt_text
    from models.outline import outline
    from posttrain.records import Demonstration, Question
    from tasks.advice.machine import this_machine

    source, revision = config.model.source, config.model.revision
    reader = load_tokenizer(source, revision=revision)
    context = context_length(source, config.model, revision=revision)
    kinds: Mapping[str, Any] = {"questions": Question, "demonstrations": Demonstration}
    rows = {role: [kind.model_validate(row) for row in _some(folder / f"{role}.jsonl")] for role, kind in kinds.items()}
    texts = [prompt_text(reader, one.prompt) for found in rows.values() for one in found]
    return Situation(
        dataset=config.data.name,
        base=outline(config.model, None, vocabulary=len(reader), context=context),
        machine=this_machine(config.model),
        prompt_tokens=percentile(_lengths(reader, texts), 0.95),
        long_response_tokens=percentile(_lengths(reader, [one.completion for one in rows["demonstrations"]]), 0.95),
        asked=Asked(judge=config.judge.model, **memory_asked(config)),
    )


def memory_asked(config: Config) -> dict[str, Any]:
    """Return what of the settings decides how much memory a run takes, as `Asked` names it."""
    limit, processes = config.evaluate.max_new_tokens, config.model.processes
    trainers = {row.trainer or "sft": row.loop or row.trainer or "sft" for row in METHODS.values()}
    rows = {trainer: _rows(getattr(config, section), processes) for trainer, section in trainers.items()}
    is_colocated = config.ppo.engine == "vllm" and not config.ppo.engine_url
    return {
        "max_new_tokens": WITHOUT_REFERENCES if limit == "auto" else limit,  # a number, once the rows have been looked at
        "lora_rank": config.model.lora_rank,
        "is_quantized": config.model.quantization != "none",
        "has_shared_critic": config.ppo.critic == "shared",
        "has_sampling_copy": config.ppo.engine == "bfloat16",
        "reward_models": config.reward_model.ensemble,
        "device_rows": rows
        # kto.device_batch_size is of all processes together, and a reward model's batch is of prompts
        | {"kto": max(1, min(rows["kto"], config.kto.device_batch_size // processes))}
        | {"reward_model": config.reward_model.device_batch_size},
        "drawn_rows": config.evaluate.batch_size,
        "rollout_rows": min(config.ppo.sample_batch_size, -(-config.ppo.episodes // processes)),
        "is_checkpointed": config.model.gradient_checkpointing == "on",
        "checkpoints_itself": config.model.gradient_checkpointing == "auto",
        "processes": processes,
        "is_sharded": processes > 1 and config.model.sharding != "none",
        "engine_share": config.ppo.engine_memory if is_colocated else 0.0,
        "draws_elsewhere": bool(config.ppo.engine_url),
    }


def _rows(section: Any, processes: int) -> int:
    """Return how many sequences a device takes at once; 1 for what trains nothing."""
    limits = [getattr(section, "device_batch_size", None)]
    batches = [getattr(section, name, None) for name in ("mini_batch_size", "batch_size")]
    limits += [max(1, int(batch) // processes) for batch in batches if batch is not None]
    return min((int(limit) for limit in limits if limit is not None), default=1)


def _some(file: Path) -> Iterator[Any]:
    return islice(read_rows(file), LOOKED_AT) if file.is_file() else iter(())


def _lengths(reader: Any, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in reader(list(texts), return_attention_mask=False)["input_ids"]] if texts else []


def _fitting(method: Method, found: Situation) -> list[str]:
    """Return the settings of which each alone makes it fit, the smallest change first; all together where none does alone."""
    trainer = method.trainer or "sft"
    section = method.loop or trainer
    rows = found.asked.device_rows.get(trainer, 1)
    smaller = next((size for size in _halves(rows) if _fits(method, _with(found, device_rows={trainer: size}))), 1)
    changes: dict[str, dict[str, Any]] = {
        f"{section}.device_batch_size={smaller}": {"device_rows": {trainer: smaller}},
        "model.gradient_checkpointing=on": {"is_checkpointed": True},
        "evaluate.batch_size=32": {"drawn_rows": min(32, found.asked.drawn_rows)},
        **({"ppo.critic=shared": {"has_shared_critic": True}} if method.has_critic else {}),
        "model.lora_rank=16": {"lora_rank": 16},
        **(QUANTIZED if found.machine.has_gpu else {}),
    }
    alone = [words for words, change in changes.items() if _fits(method, _with(found, **change))]
    together: dict[str, Any] = {name: value for change in changes.values() for name, value in change.items()}
    if alone or not _fits(method, _with(found, **together)):
        return alone
    return [" with ".join(changes)]


def _halves(rows: int) -> Iterator[int]:
    while rows > 1:
        rows //= 2
        yield rows


def _with(found: Situation, **changes: Any) -> Situation:
    return replace(found, asked=replace(found.asked, **changes))


def _fits(method: Method, found: Situation) -> bool:
    needed: Memory = memory_of(method, found)
    return needed.likely <= found.machine.memory
