"""The stage `dpo`: TRL's DPOTrainer on preference pairs, with the reference's log-probabilities computed beforehand."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from models.fingerprint import must_move
from models.load import device, load_model, load_tokenizer, prompt_text
from models.lora import merged, seeded_lora
from models.size import size_of
from posttrain.compute import learning, reading
from posttrain.errors import DataError
from posttrain.feedback.labels import as_preferences, by_pair
from posttrain.records import Preference
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.model import ModelSettings
from tasks.feedback.labels import read_labels
from tasks.training.trl import epochs_within, shared_arguments, silenced, steps_of, watched
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.weights import save, source_of


def arguments(scratch: Path, settings: DPOSettings, *, model: ModelSettings, epochs: float, context: int, seed: int) -> DPOConfig:
    """Return TRL's configuration for our settings: the DPO loss, and beside it the NLL of the chosen where it has weight."""
    losses = ["robust" if settings.label_smoothing else "sigmoid"]
    weights = [1.0]
    if settings.nll_weight:
        losses.append("sft")
        weights.append(settings.nll_weight)
    return DPOConfig(
        **shared_arguments(scratch, settings, model=model, epochs=epochs, seed=seed),
        loss_type=losses,
        loss_weights=weights,
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        precompute_ref_log_probs=True,
        max_length=context,
    )


class EndsAsSampled(DPOTrainer):  # type: ignore[misc]  # trl is not typed
    """TRL's trainer, which puts EOS behind every completion, without the EOS behind those that were cut off.

    A policy that is rewarded for an EOS in the middle of a solution learns to stop there.
    """

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **how: Any) -> Dataset:
        eos = self._tokenizer.eos_token_id

        def cut(row: dict[str, Any]) -> dict[str, Any]:
            ends = {side: row[f"{side}_ids"] for side in ("chosen", "rejected")}
            return {
                f"{side}_ids": ids if row[f"{side}_finished"] or not ids or ids[-1] != eos else ids[:-1]
                for side, ids in ends.items()
            }

        return super()._prepare_dataset(dataset, *args, **how).map(cut)


def _row(pair: Preference, reader: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "prompt": prompt_text(reader, pair.prompt),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "chosen_finished": pair.chosen_finished is not False,
        "rejected_finished": pair.rejected_finished is not False,
    }


def train(
    out: Path,
    log: Log,
    *,
    labels: Path,
    start: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: DPOSettings,
    context: int,
    seed: int,
) -> Outcome:
    """Write `model/`: the model in `start` trained on the labels in `labels`; it is its own reference.

    A pair's labels are averaged and count as hard; pairs that come out even teach nothing and are counted in `equal_pairs`.

    Raises:
        DataError: every pair comes out even.
    """
    reader = load_tokenizer(tokenizer)
    given = read_labels(labels)
    pairs = as_preferences(given)
    equal = len(by_pair(given)) - len(pairs)
    if not pairs:
        raise DataError(
            f"DPO has nothing to learn from: of the {equal} pairs that were labelled, none has a better response (labels "
            "average to 0.5). Ask more annotators or another judge (labels.*)"
        )
    rows = [_row(pair, reader) for pair in pairs]
    source, revision = source_of(start)
    epochs = epochs_within(settings, rows=len(rows))
    steps = steps_of(epochs, settings, rows=len(rows))
    with TemporaryDirectory() as scratch, watched("dpo", steps=steps, log=log) as curves:
        started = time.perf_counter()
        trainer = EndsAsSampled(
            model=load_model(source, model, on=device(), revision=revision, train=True),
            args=arguments(Path(scratch), settings, model=model, epochs=epochs, context=context, seed=seed),
            train_dataset=Dataset.from_list(rows),
            processing_class=reader,
            peft_config=seeded_lora(model, seed=seed),
            callbacks=[curves],
        )
        with must_move(trainer.model, stage="dpo"):
            silenced(trainer).train()
        seconds = time.perf_counter() - started
        size = size_of(trainer.model)
        read = _pair_tokens(trainer.train_dataset, context)
        save(merged(trainer.model), reader, out / "model")
    last = curves.last
    tokens = int(last.get("num_tokens", 0))
    return Outcome(
        metrics={
            "loss": last["loss"],
            "pairs": len(rows),
            "cut_off": sum(not row[side] for row in rows for side in ("chosen_finished", "rejected_finished")),
            "equal_pairs": equal,
            "epochs": epochs,
            "margin": last["rewards/margins"],
            "chosen_reward": last["rewards/chosen"],
            "pair_accuracy": last["rewards/accuracies"],
        },
        costs={
            "train_seconds": seconds,
            "trained_tokens": tokens,
            **reading(size, read).plus(learning(size, tokens)).as_costs(),
        },
    )


def _pair_tokens(rows: Iterable[Mapping[str, Any]], context: int) -> int:
    """Return the tokens that the reference reads of TRL's rows: each pair once, prompt and response of either side."""
    sides = ("chosen_ids", "rejected_ids")
    return sum(min(context, len(row["prompt_ids"]) + len(row[side])) for row in rows for side in sides)
