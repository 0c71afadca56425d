"""Our GRPO and RLOO against the trainers of the TRL that is installed, in turn and with equal work.

    python -m benchmarks.groups_vs_trl [method=grpo|rloo|both] [size=default|30m|both] [repeats=3] [updates=3] [threads=2]

Both get the checkpoint and prompts of `benchmarks.ppo_vs_trl`, groups of 8, the same mini-batches, epochs, clip range, KL and
length, and one reward that costs nothing: the share of even token ids. Each run is a process of its own that starts from nothing
(ours, TRL's, ours, …); set-up and the first update are not counted. Prints episodes a second and the ratio of each repetition, so
that a machine that slows down slows both; writes reports/groups_vs_trl.json.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from flows.environment import keep_freed_memory
from models.policy import policy_and_critic, reference_logprobs
from models.sampler import sample
from posttrain.rl.estimators import Estimator
from posttrain.rl.grpo import GroupRelative
from posttrain.rl.ppo import ppo
from posttrain.rl.rewards import Rewards
from posttrain.rl.rloo import LeaveOneOut
from posttrain.settings.grpo import GRPOSettings
from posttrain.settings.ppo import PPOSettings
from posttrain.settings.rloo import RLOOSettings

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".posttrain" / "ppo_vs_trl"
DEFAULTS = {"method": "both", "size": "default", "repeats": "3", "updates": "3", "threads": str(os.cpu_count() or 1)}
GROUP = 8


def shares(responses: Sequence[Sequence[int]]) -> list[float]:
    return [sum(token % 2 == 0 for token in response) / len(response) for response in responses]


def ours(given: dict[str, Any], folder: Path, *, method: str, updates: int) -> list[float]:
    """Return seconds from the start to the end of each update."""
    prompts: list[list[int]] = json.loads((folder / "prompts.json").read_text())
    network = policy_and_critic(AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32), critic="none")
    how = {"num_generations": GROUP, "kl_coef": given["kl_coef"], "clip_range": given["clip_range"]}
    estimator: Estimator = GroupRelative(GRPOSettings(**how)) if method == "grpo" else LeaveOneOut(RLOOSettings(**how))
    settings = PPOSettings(
        updates=updates,
        episodes=given["episodes"],
        mini_batch=given["episodes"] // given["mini_batches"],
        epochs=given["epochs"],
        learning_rate=given["learning_rate"],
        adam_epsilon=given["adam_epsilon"],
        max_new_tokens=given["longest"],
        max_grad_norm=1.0,
        min_finished=0.0,
        patience=10**6,
    )

    def draw(asked: Sequence[int], chance: torch.Tensor) -> Any:
        chosen = [prompts[question] for question in asked]
        ids = {"end_ids": (given["eos_id"],), "pad_id": given["pad_id"]}
        return chosen, sample(
            network.policy, chosen, chance, temperature=1.0, context=given["context"], batch_size=len(chosen), **ids
        )

    started, times = time.perf_counter(), []
    for _ in ppo(
        network,
        reference=reference_logprobs(network.policy, temperature=1.0),
        sample=draw,
        score=lambda asked, responses: Rewards(values=shares(responses)),
        questions=len(prompts),
        pad_id=given["pad_id"],
        settings=settings,
        accelerator=Accelerator(cpu=True),
        seed=0,
        estimator=estimator,
    ):
        times.append(time.perf_counter() - started)
    return times


class Watch(TrainerCallback):  # type: ignore[misc]
    """When each update ended, which is several of TRL's steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.times: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step % self.steps == 0:
            self.times.append(time.perf_counter() - self.started)


def theirs(given: dict[str, Any], folder: Path, *, method: str, updates: int) -> list[float]:
    """Return the same of TRL's trainer; it is handed prompts as token ids, since those at 30 M are no text."""
    prompts: list[list[int]] = json.loads((folder / "prompts.json").read_text())
    trainer, config = (GRPOTrainer, GRPOConfig) if method == "grpo" else (RLOOTrainer, RLOOConfig)
    steps = given["mini_batches"] * given["epochs"]
    watch = Watch(steps)
    extra = {"loss_type": "grpo", "use_bias_correction_kl": False} if method == "grpo" else {}
    made = trainer(
        model=str(folder / "model"),
        reward_funcs=lambda completion_ids, **_: shares(completion_ids),
        args=config(
            output_dir=str(WORK / "trl"),
            model_init_kwargs={"dtype": "float32"},
            per_device_train_batch_size=given["episodes"] // given["mini_batches"],
            steps_per_generation=given["mini_batches"],
            gradient_accumulation_steps=1,
            num_iterations=given["epochs"],
            num_generations=GROUP,
            max_completion_length=given["longest"],
            beta=given["kl_coef"],
            epsilon=given["clip_range"],
            learning_rate=given["learning_rate"],
            adam_epsilon=given["adam_epsilon"],
            lr_scheduler_type="constant",
            max_steps=steps * updates,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=None,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=steps * updates,
            **extra,
        ),
        train_dataset=Dataset.from_dict({"prompt": [str(place) for place in range(len(prompts))]}),
        processing_class=AutoTokenizer.from_pretrained(folder / "model", padding_side="left"),
        callbacks=[watch],
    )
    made._tokenize_prompts = lambda places: ([prompts[int(place)] for place in places], None, {})
    made.train()
    return watch.times


def rates(size: str, method: str, *, repeats: int, updates: int, threads: int) -> dict[str, list[float]]:
    """Return episodes a second of both, run in turn."""
    folder = WORK / size
    if not (folder / "settings.json").is_file():
        subprocess.run([sys.executable, "-m", "benchmarks.ppo_vs_trl.inputs", size, str(folder)], cwd=ROOT, check=True)
    episodes = json.loads((folder / "settings.json").read_text())["episodes"]
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    out = WORK / "times.json"
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        for side, per_second in found.items():
            words = [side, size, method, str(updates + 1), str(out)]
            command = [sys.executable, "-m", "benchmarks.groups_vs_trl", "worker", *words]
            done = subprocess.run(command, cwd=ROOT, env=os.environ | limits | quiet, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
            times = json.loads(out.read_text())
            per_second.append(episodes * updates / (times[-1] - times[0]))
    return found


def work(side: str, size: str, method: str, updates: str, out: str) -> None:
    logging.disable_progress_bar()
    keep_freed_memory()
    folder = WORK / size
    given = json.loads((folder / "settings.json").read_text())
    run = ours if side == "ours" else theirs
    Path(out).write_text(json.dumps(run(given, folder, method=method, updates=int(updates))))


def main(words: list[str]) -> None:
    given = DEFAULTS | dict(word.partition("=")[::2] for word in words)
    if unknown := set(given) - set(DEFAULTS):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}. Say {', '.join(DEFAULTS)}")
    table = Table(title=f"episodes a second, {given['threads']} threads", title_justify="left")
    for column in ("size", "method", "posttrain", "TRL", "ratio: median (least–most)"):
        table.add_column(column)
    report: dict[str, Any] = {}
    for size in ("default", "30m") if given["size"] == "both" else (given["size"],):
        for method in ("grpo", "rloo") if given["method"] == "both" else (given["method"],):
            how = {name: int(given[name]) for name in ("repeats", "updates", "threads")}
            found = rates(size, method, **how)
            ratios = [mine / other for mine, other in zip(found["ours"], found["theirs"], strict=True)]
            report[f"{size} {method}"] = found | {"ratios": ratios}
            table.add_row(
                size,
                method,
                *(f"{median(found[side]):.1f}" for side in ("ours", "theirs")),
                f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            )
    path = ROOT / "reports" / "groups_vs_trl.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1))
    Console(width=120).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        work(*sys.argv[2:])
    else:
        main(sys.argv[1:])
