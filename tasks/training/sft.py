"""The stage `sft`: TRL's SFTTrainer on demonstrations, loss on the completion only, its end taught."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from models.load import load_tokenizer
from models.lora import seeded_lora
from models.size import size_of
from posttrain.compute import learning
from posttrain.records import Demonstration, Prompt
from posttrain.settings.model import ModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.training.sharded import Sharded, save_trained, to_train
from tasks.training.trl import epochs_within, shared_arguments, steps_of, tokenised, trained, watched
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import required


class Imitation(Sharded, SFTTrainer):  # type: ignore[misc]  # trl is not typed
    """TRL's trainer, which may keep its weights in parts."""


def arguments(scratch: Path, settings: SFTSettings, *, model: ModelSettings, epochs: float, context: int, seed: int) -> SFTConfig:
    """Return TRL's configuration for our settings."""
    return SFTConfig(
        **shared_arguments(scratch, settings, model=model, epochs=epochs, seed=seed),
        completion_only_loss=True,
        max_length=context,
        packing=False,
    )


def train(
    out: Path,
    log: Log,
    *,
    data: Path,
    base: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: SFTSettings,
    context: int,
    seed: int,
) -> Outcome:
    """Write `model/`: the base fine-tuned on the dataset's demonstrations."""
    demonstrations = required(data, "demonstrations", Demonstration, why="SFT imitates")
    outcome = imitate(
        out,
        log,
        [(one.prompt, one.completion) for one in demonstrations],
        stage="sft",
        start=base,
        tokenizer=tokenizer,
        model=model,
        settings=settings,
        context=context,
        seed=seed,
    )
    return Outcome(metrics={**outcome.metrics, "demonstrations": len(demonstrations)}, costs=outcome.costs)


def imitate(
    out: Path,
    log: Log,
    examples: Sequence[tuple[Prompt, str]],
    *,
    stage: str,
    start: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: SFTSettings,
    context: int,
    seed: int,
) -> Outcome:
    """Write `model/`: the model in `start` fine-tuned on prompts with their completions; return loss, epochs and costs.

    Args:
        out: where to write.
        log: takes the curve.
        examples: each a prompt and the completion to imitate; what ends a response is put behind it.
        stage: section of the settings, for the bar and for errors.
        start: artifact of the model.
        tokenizer: folder of the tokenizer.
        model: how it is loaded.
        settings: of the section.
        context: tokens of prompt and completion together; what is longer is cut.
        seed: of order and initialisation.
    """
    reader = load_tokenizer(tokenizer)
    heads, tails = tokenised(reader, [(prompt, completion, True) for prompt, completion in examples])
    rows = [
        {"input_ids": head + tail, "completion_mask": [0] * len(head) + [1] * len(tail)}
        for head, tail in zip(heads, tails, strict=True)
    ]
    epochs = epochs_within(settings, rows=len(rows))
    steps = steps_of(epochs, settings, rows=len(rows))
    with TemporaryDirectory() as scratch, watched(stage, steps=steps, log=log) as curves:

        def make(settings: SFTSettings) -> Imitation:
            return Imitation(
                model=to_train(start, model),
                args=arguments(Path(scratch), settings, model=model, epochs=epochs, context=context, seed=seed),
                train_dataset=Dataset.from_list(rows),
                processing_class=reader,
                peft_config=seeded_lora(model, seed=seed),
                callbacks=[curves],
            )

        started = time.perf_counter()
        trainer = trained(stage, settings, make)
        seconds = time.perf_counter() - started
        size = size_of(trainer.model)
        save_trained(trainer, reader, out / "model", start=start, model=model)
    tokens = int(curves.last.get("num_tokens", 0))
    return Outcome(
        metrics={"loss": curves.last["loss"], "epochs": epochs},
        costs={"train_seconds": seconds, "trained_tokens": tokens, **learning(size, tokens).as_costs()},
    )
