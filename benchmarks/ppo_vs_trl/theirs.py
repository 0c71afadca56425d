"""TRL's side: a script that runs in TRL's own environment and imports nothing of ours.

    PYTHON theirs.py FOLDER OUT seed=0 updates=4 seconds=0 [dump=FILE]

Trains with `trl.experimental.ppo.PPOTrainer` and writes what it measured, as ours.py does. With `dump`, the tensors inside its
training loop are written too (safetensors): at its very first backward pass, and at the first and the last of its second update,
where critic and reward model are no longer one function.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from transformers.utils import logging
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer


class Enough(Exception):  # noqa: N818 - no error: the way out of a loop that has none
    """The run has lasted as long as was asked for."""


class Watch(TrainerCallback):
    """When each update ended, and its figures."""

    def __init__(self, seconds: float) -> None:
        self.told: dict[str, list[float]] = {"times": [], "scores": [], "kl": []}
        self.phases: dict[str, float] = {}
        self.seconds = seconds
        self.started = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        self.told["scores"].append(logs["objective/scores"])
        self.told["kl"].append(logs["objective/kl"])

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.told["times"].append(time.perf_counter() - self.started)
        if len(self.told["times"]) == 1:
            self.phases.clear()
        if self.seconds and self.told["times"][-1] > self.seconds:
            raise Enough

    def timed(self, name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = function(*given, **named)
            label = name(*given)
            self.phases[label] = self.phases.get(label, 0.0) + time.perf_counter() - started
            return result

        return call


def config(given: dict[str, Any], *, seed: int, updates: int, scratch: Path) -> PPOConfig:
    """Return the common hyper-parameters as TRL's.

    `gradient_accumulation_steps` stays 1: with more, its loop takes one optimiser step per that many micro-batches, of which
    a mini-batch of micro-batch size is one, so four mini-batches would make one step instead of four.
    """
    return PPOConfig(
        output_dir=str(scratch),
        per_device_train_batch_size=given["episodes"],
        gradient_accumulation_steps=1,
        num_mini_batches=given["mini_batches"],
        local_rollout_forward_batch_size=given["episodes"],
        total_episodes=given["episodes"] * updates,
        num_ppo_epochs=given["epochs"],
        learning_rate=given["learning_rate"],
        lr_scheduler_type="constant",
        adam_epsilon=given["adam_epsilon"],
        weight_decay=0.0,
        kl_coef=given["kl_coef"],
        cliprange=given["clip_range"],
        cliprange_value=given["value_clip_range"],
        vf_coef=given["value_coef"],
        gamma=given["gamma"],
        lam=given["gae_lambda"],
        temperature=given["temperature"],
        response_length=given["longest"],
        stop_token="eos",
        num_sample_generations=0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
        seed=seed,
    )


def build(folder: Path, given: dict[str, Any], arguments: PPOConfig, watch: Watch) -> PPOTrainer:
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32) for _ in range(2))
    reward, value = (AutoModelForSequenceClassification.from_pretrained(folder / "reward", dtype=torch.float32) for _ in range(2))
    policy.generation_config.pad_token_id = given["pad_id"]
    prompts = json.loads((folder / "prompts.json").read_text())
    return PPOTrainer(
        args=arguments,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": prompts}),
        callbacks=[watch],
    )


def time_phases(trainer: PPOTrainer, watch: Watch) -> None:
    """Time its functions by the names of our phases; its `forward` serves the reference and the training both."""
    ppo_trainer.batch_generation = watch.timed(lambda *_: "sample", ppo_trainer.batch_generation)
    ppo_trainer.get_reward = watch.timed(
        lambda model, *_: "score" if model is trainer.reward_model else "values", ppo_trainer.get_reward
    )
    ppo_trainer.forward = watch.timed(lambda *_: "forward" if torch.is_grad_enabled() else "reference", ppo_trainer.forward)


def dump_tensors(trainer: PPOTrainer, path: Path) -> None:
    """Write the loop's own variables as they stand when it calls backward: what its inline arithmetic has made of what."""
    kept: dict[str, torch.Tensor] = {}
    calls: list[int] = []
    backward, whiten, generation = trainer.accelerator.backward, ppo_trainer.masked_whiten, ppo_trainer.batch_generation

    def keep(prefix: str, tensors: dict[str, Any]) -> None:
        for name, found in tensors.items():
            if isinstance(found, torch.Tensor):
                kept[f"{prefix}{name}"] = found.detach().clone().contiguous()

    def whitened(values: torch.Tensor, mask: torch.Tensor, **how: Any) -> torch.Tensor:
        result = whiten(values, mask, **how)
        keep("whiten.", {"values": values, "mask": mask, "result": result})
        return result

    def generated(*given: Any) -> Any:
        result = generation(*given)
        keep("generated.", {"logits": result[1]})
        return result

    def with_dump(loss: torch.Tensor, **how: Any) -> None:
        found = dict(sys._getframe(1).f_locals)
        found["rows"] = torch.as_tensor(found["micro_batch_inds"])
        logits, value = torch.autograd.grad(loss, [found["logits"], found["vpred_temp"]], retain_graph=True)
        found |= {"logits_gradient": logits, "value_gradient": value[:, found["context_length"] - 1 : -1, 0]}
        found["context"] = torch.tensor(found["context_length"])
        if not calls:
            keep("start.", found)
        steps = trainer.args.num_ppo_epochs * trainer.args.num_mini_batches
        keep("last." if len(calls) % steps else "first.", found)
        calls.append(len(calls))
        backward(loss, **how)

    trainer.accelerator.backward = with_dump
    ppo_trainer.masked_whiten = whitened
    ppo_trainer.batch_generation = generated
    trainer.train()
    save_file({name: tensor for name, tensor in kept.items() if tensor.dtype is not torch.int8}, path)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main(folder: Path, out: Path, words: dict[str, str]) -> None:
    logging.disable_progress_bar()
    given = json.loads((folder / "settings.json").read_text())
    watch = Watch(float(words.get("seconds", "0")))
    dump = words.get("dump")
    if dump:
        given |= {"episodes": 32, "temperature": 0.7, "learning_rate": 1e-3}
    updates = 2 if dump else int(words["updates"]) + 1
    arguments = config(given, seed=int(words.get("seed", "0")), updates=updates, scratch=out.parent / "trl")
    trainer = build(folder, given, arguments, watch)
    if dump:
        dump_tensors(trainer, Path(dump))
        return
    time_phases(trainer, watch)
    before = peak_mb()
    with suppress(Enough):
        trainer.train()
    out.write_text(json.dumps(watch.told | {"phases": watch.phases, "loaded_mb": before, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), dict(word.partition("=")[::2] for word in sys.argv[3:]))
