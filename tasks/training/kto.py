"""The stage `kto`: TRL's KTOTrainer on single responses, with the reference's log-probabilities computed beforehand."""

import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase
from trl import KTOConfig, KTOTrainer

from models.load import load_tokenizer
from models.lora import seeded_lora
from models.processes import processes
from models.sharding import is_fsdp
from models.size import size_of
from posttrain.compute import learning, reading
from posttrain.errors import DataError, RequestError
from posttrain.feedback.labels import Verdict, as_preferences, as_verdicts, by_pair
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from tasks.feedback.labels import read_labels
from tasks.training.sharded import WithReference, save_trained, with_reference
from tasks.training.trl import (
    device_batch,
    epochs_within,
    shared_arguments,
    steps_of,
    tokenised,
    trained,
    watched,
    with_shared_cache,
)
from tasks.workspace.artifacts import Log, Outcome

FIXED = (
    "the responses that a device takes at once estimate KTO's KL term, so their number decides what is learnt and is not lowered "
    "by itself. Lower kto.device_batch_size"
)

FIGURES = {"loss": "loss", "margin": "rewards/margins", "desirable_reward": "rewards/chosen", "kl": "kl"}
"""What the last step says of itself, as TRL calls it."""


class EndsAsSampled(WithReference, KTOTrainer):  # type: ignore[misc]  # trl has no types
    """TRL's trainer on rows that are tokenised already, with an end behind the responses that had one (`tokenised`).

    A batch's own responses, each behind the next one's prompt, estimate the KL term. A last batch of one gets another beside it.
    """

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: KTOConfig, dataset_name: str) -> Dataset:
        size = args.per_device_train_batch_size * processes()

        def mismatched(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            ids = batch["completion_ids"]
            return {"KL_completion_ids": [ids[-1], *ids[:-1]]}

        # as TRL does: a prompt that fills the context leaves nothing to learn
        rows = dataset.filter(lambda row: len(row["prompt_ids"]) < args.max_length)
        if len(rows) % size == 1:
            rows = concatenate_datasets([rows, rows.select([0])])
        return with_shared_cache(rows.map(mismatched, batched=True, batch_size=size))


def rows_of(verdicts: Sequence[Verdict], reader: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Return TRL's rows of responses, in their order."""
    heads, tails = tokenised(reader, [(it.prompt, it.response, it.finished) for it in verdicts])
    return [
        {"prompt_ids": head, "completion_ids": tail, "label": it.is_desirable}
        for it, head, tail in zip(verdicts, heads, tails, strict=True)
    ]


def arguments(
    scratch: Path, settings: KTOSettings, *, model: ModelSettings, epochs: float, ratio: float, context: int, seed: int
) -> KTOConfig:
    """Return TRL's configuration for our settings, where there are `ratio` undesirable responses for each desirable one.

    A weight that is none makes λ_D n_D = λ_U n_U; the paper advises a ratio in [1, 4/3] (arXiv:2402.01306, version 1, eq. 8).
    """
    other = settings.undesirable_weight
    weight = settings.desirable_weight or (other * ratio if other else max(1.0, ratio))
    # what estimates the KL term together is as many responses however many processes hold them
    together = device_batch(settings, settings.device_batch_size, devices=1)
    if together % processes() or together < 2 * processes():
        raise RequestError(
            f"kto.device_batch_size: {together} responses of a batch of {settings.batch_size} estimate KTO's KL term together, "
            f"and {processes()} processes (model.processes) cannot take as many each, at least 2. Set kto.batch_size and "
            f"kto.device_batch_size to multiples of {2 * processes()}"
        )
    settings = settings.model_copy(update={"device_batch_size": together // processes()})
    return KTOConfig(
        **shared_arguments(scratch, settings, model=model, epochs=epochs, seed=seed),
        beta=settings.beta,
        desirable_weight=weight,
        undesirable_weight=other or weight / ratio,
        precompute_ref_log_probs=not is_fsdp(model),
        max_length=context,
    )


def train(
    out: Path,
    log: Log,
    *,
    labels: Path,
    start: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: KTOSettings,
    context: int,
    seed: int,
) -> Outcome:
    """Write `model/`: the model in `start` trained on the labels in `labels`; it is its own reference.

    Raises:
        DataError: no response wins more pairs than it loses.
    """
    reader, given = load_tokenizer(tokenizer), read_labels(labels)
    verdicts, pairs = as_verdicts(given), len(by_pair(given))
    equal = pairs - len(as_preferences(given))
    if not verdicts:
        raise DataError(
            f"KTO has nothing to learn from: of the {pairs} pairs that were labelled, {equal} have no better response (labels "
            "average to 0.5); in others a response wins as often as it loses. Ask more annotators or another judge (labels.*)"
        )
    # shuffled here, since TRL reads them in order: neighbours estimate the KL term and must not share their prompt
    rows = rows_of(Random(seed).sample(verdicts, len(verdicts)), reader)
    good, bad = (sum(it.is_desirable is which for it in verdicts) for which in (True, False))
    epochs = epochs_within(settings, rows=len(rows))
    with TemporaryDirectory() as scratch, watched("kto", steps=steps_of(epochs, settings, rows=len(rows)), log=log) as curves:
        started = time.perf_counter()
        told = arguments(Path(scratch), settings, model=model, epochs=epochs, ratio=bad / good, context=context, seed=seed)

        def make(settings: KTOSettings) -> EndsAsSampled:
            return EndsAsSampled(
                **with_reference(start, model),
                args=told,
                train_dataset=Dataset.from_list(rows),
                processing_class=reader,
                peft_config=seeded_lora(model, seed=seed),
                callbacks=[curves],
            )

        trainer = trained("kto", settings, make, fixed=FIXED)
        seconds, size, tokens = time.perf_counter() - started, size_of(trainer.model), int(curves.last["num_tokens"])
        once = sum(min(context, len(row["prompt_ids"]) + len(row["completion_ids"])) for row in trainer.train_dataset)
        save_trained(trainer, reader, out / "model", start=start, model=model)
    # the reference reads all once, matched and mismatched; the policy reads the mismatched in every step as well
    spent = reading(size, 2 * once + tokens).plus(learning(size, tokens))
    return Outcome(
        metrics={
            **{name: curves.last[theirs] for name, theirs in FIGURES.items() if theirs in curves.last},  # a batch may lack one
            "desirable": good,
            "undesirable": bad,
            "desirable_weight": told.desirable_weight,
            "undesirable_weight": told.undesirable_weight,
            "cut_off": sum(not it.finished for it in verdicts),
            "equal_pairs": equal,
            "epochs": epochs,
        },
        costs={"train_seconds": seconds, "trained_tokens": tokens, **spent.as_costs()},
    )
