"""The stage `dpo`: TRL's DPOTrainer on preference pairs, with the reference's log-probabilities computed beforehand."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from models.load import load_tokenizer
from models.lora import seeded_lora
from models.processes import processes, summed
from models.sharding import is_fsdp
from models.size import size_of
from posttrain.compute import learning, reading
from posttrain.errors import DataError
from posttrain.feedback.labels import as_preferences, by_pair
from posttrain.records import Preference
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.model import ModelSettings
from tasks.feedback.labels import read_labels
from tasks.training.sharded import WithReference, save_trained, with_reference
from tasks.training.trl import epochs_within, shared_arguments, steps_of, tokenised, trained, watched, with_shared_cache
from tasks.workspace.artifacts import Log, Outcome


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
        precompute_ref_log_probs=not is_fsdp(model),
        max_length=context,
    )


class EndsAsSampled(WithReference, DPOTrainer):  # type: ignore[misc]  # trl is not typed
    """TRL's trainer on rows that are tokenised already, with an end behind the responses that had one (`tokenised`).

    TRL takes the mean of each loss over what a device takes at once, and then the mean of these means. Here a part counts by its
    share of the whole batch, of its pairs (the DPO loss) or of the tokens of chosen completions (the NLL), so that how a batch is
    parted decides nothing.
    """

    loss_weights: Any

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: DPOConfig, dataset_name: str) -> Dataset:
        # as TRL does: a prompt that fills the context leaves nothing to learn
        return with_shared_cache(dataset.filter(lambda row: len(row["prompt_ids"]) < args.max_length))

    def get_batch_samples(self, *args: Any, **how: Any) -> Any:
        """Return the parts of the next batch, and keep how much there is in all of them."""
        parts, items = super().get_batch_samples(*args, **how)
        mine = torch.tensor([sum(counts) for counts in zip(*map(_counts, parts), strict=True)], device=self.args.device)
        self._whole = summed(mine).tolist()
        self._parts = len(parts) * processes()  # gradients are averaged over processes, too
        return parts, items

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **how: Any) -> Any:
        """Return the loss of one part; the trainer divides it by the number of parts."""
        kept = self.loss_weights
        shares = [own * self._parts / whole for own, whole in zip(_counts(inputs), self._whole, strict=True)]
        self.loss_weights = [weight * shares[kind == "sft"] for kind, weight in zip(self.loss_types, kept, strict=True)]
        try:
            return super().compute_loss(model, inputs, *args, **how)
        finally:
            self.loss_weights = kept


def _counts(part: Mapping[str, Any]) -> tuple[int, int]:
    """Return the pairs of a part, and the tokens of their chosen completions, which are its first rows."""
    mask = part["completion_mask"]
    pairs = len(mask) // 2
    return pairs, int(mask[:pairs, 1:].sum())


def rows_of(pairs: Sequence[Preference], reader: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Return TRL's rows of pairs; what is not known to have been cut off counts as finished."""
    ended = {side: [getattr(pair, f"{side}_finished") is not False for pair in pairs] for side in ("chosen", "rejected")}
    heads, chosen = tokenised(reader, [(it.prompt, it.chosen, done) for it, done in zip(pairs, ended["chosen"], strict=True)])
    _, rejected = tokenised(reader, [(it.prompt, it.rejected, done) for it, done in zip(pairs, ended["rejected"], strict=True)])
    return [
        {"prompt_ids": head, "chosen_ids": good, "rejected_ids": bad, "cut_off": (not good_ended) + (not bad_ended)}
        for head, good, bad, good_ended, bad_ended in zip(
            heads, chosen, rejected, ended["chosen"], ended["rejected"], strict=True
        )
    ]


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
    rows = rows_of(pairs, reader)
    epochs = epochs_within(settings, rows=len(rows))
    with TemporaryDirectory() as scratch, watched("dpo", steps=steps_of(epochs, settings, rows=len(rows)), log=log) as curves:

        def make(settings: DPOSettings) -> EndsAsSampled:
            return EndsAsSampled(
                **with_reference(start, model),
                args=arguments(Path(scratch), settings, model=model, epochs=epochs, context=context, seed=seed),
                train_dataset=Dataset.from_list(rows),
                processing_class=reader,
                peft_config=seeded_lora(model, seed=seed),
                callbacks=[curves],
            )

        started = time.perf_counter()
        trainer = trained("dpo", settings, make)
        seconds, size = time.perf_counter() - started, size_of(trainer.model)
        read = _pair_tokens(trainer.train_dataset, context)
        save_trained(trainer, reader, out / "model", start=start, model=model)
    last = curves.last
    tokens = int(last.get("num_tokens", 0))
    return Outcome(
        metrics={
            "loss": last["loss"],
            "pairs": len(rows),
            "cut_off": sum(row["cut_off"] for row in rows),
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
