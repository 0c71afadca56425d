"""The stage `sft`: TRL's SFTTrainer on demonstrations, loss on the completion only, EOS taught."""

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from models.load import device, load_model, load_tokenizer, prompt_text
from posttrain.config import ModelSettings, SFTSettings
from posttrain.records import Demonstration
from tasks.records import required
from tasks.stage import Log, Outcome
from tasks.trainer import epochs_within, lora, merged, shared_arguments, silenced, watched
from tasks.weights import save, source_of


def arguments(scratch: Path, settings: SFTSettings, *, model: ModelSettings, context: int, seed: int) -> SFTConfig:
    """Return TRL's configuration for our settings."""
    return SFTConfig(
        **shared_arguments(
            scratch,
            model=model,
            batch_size=settings.batch_size,
            device_batch_size=settings.device_batch_size,
            learning_rate=settings.learning_rate,
            epochs=settings.epochs,
            warmup=settings.warmup,
            seed=seed,
        ),
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
    reader = load_tokenizer(tokenizer)
    demonstrations = required(data, "demonstrations", Demonstration, why="SFT imitates")
    rows = [{"prompt": prompt_text(reader, one.prompt), "completion": one.completion} for one in demonstrations]
    source, revision = source_of(base)
    epochs = epochs_within(settings.epochs, most_steps=settings.most_steps, rows=len(rows), batch_size=settings.batch_size)
    steps = math.ceil(len(rows) / settings.batch_size) * epochs
    with TemporaryDirectory() as scratch, watched("sft", steps=math.ceil(steps), log=log) as curves:
        trainer = SFTTrainer(
            model=load_model(source, model, on=device(), revision=revision, train=True),
            args=arguments(
                Path(scratch), settings.model_copy(update={"epochs": epochs}), model=model, context=context, seed=seed
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=reader,
            peft_config=lora(model),
            callbacks=[curves],
        )
        started = time.perf_counter()
        silenced(trainer).train()
        seconds = time.perf_counter() - started
        save(merged(trainer.model), reader, out / "model")
    return Outcome(
        metrics={"loss": curves.last["loss"], "demonstrations": len(rows), "epochs": epochs},
        costs={"train_seconds": seconds, "trained_tokens": curves.last.get("num_tokens", 0.0)},
    )
