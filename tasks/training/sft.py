"""The stage `sft`: TRL's SFTTrainer on demonstrations, loss on the completion only, EOS taught."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from models.fingerprint import must_move
from models.load import device, load_model, load_tokenizer, prompt_text
from models.lora import lora, merged
from models.size import size_of
from posttrain.compute import learning
from posttrain.records import Demonstration
from posttrain.settings.model import ModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.training.trl import epochs_within, shared_arguments, silenced, steps_of, watched
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import required
from tasks.workspace.weights import save, source_of


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
    reader = load_tokenizer(tokenizer)
    demonstrations = required(data, "demonstrations", Demonstration, why="SFT imitates")
    rows = [{"prompt": prompt_text(reader, one.prompt), "completion": one.completion} for one in demonstrations]
    source, revision = source_of(base)
    epochs = epochs_within(settings, rows=len(rows))
    steps = steps_of(epochs, settings, rows=len(rows))
    with TemporaryDirectory() as scratch, watched("sft", steps=steps, log=log) as curves:
        trainer = SFTTrainer(
            model=load_model(source, model, on=device(), revision=revision, train=True),
            args=arguments(Path(scratch), settings, model=model, epochs=epochs, context=context, seed=seed),
            train_dataset=Dataset.from_list(rows),
            processing_class=reader,
            peft_config=lora(model),
            callbacks=[curves],
        )
        started = time.perf_counter()
        with must_move(trainer.model, stage="sft"):
            silenced(trainer).train()
        seconds = time.perf_counter() - started
        size = size_of(trainer.model)
        save(merged(trainer.model), reader, out / "model")
    tokens = int(curves.last.get("num_tokens", 0))
    return Outcome(
        metrics={"loss": curves.last["loss"], "demonstrations": len(rows), "epochs": epochs},
        costs={"train_seconds": seconds, "trained_tokens": tokens, **learning(size, tokens).as_costs()},
    )
