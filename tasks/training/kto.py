"""The stage `kto`: TRL's KTOTrainer on single responses, with the reference's log-probabilities computed beforehand."""

import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, concatenate_datasets
from trl import KTOConfig, KTOTrainer

from models.fingerprint import must_move
from models.load import device, load_model, load_tokenizer, prompt_text
from models.lora import merged, seeded_lora
from models.size import size_of
from posttrain.compute import learning, reading
from posttrain.errors import DataError
from posttrain.feedback.labels import as_preferences, as_verdicts, by_pair
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from tasks.feedback.labels import read_labels
from tasks.training.trl import epochs_within, shared_arguments, silenced, steps_of, watched
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.weights import save, source_of


class EndsAsSampled(KTOTrainer):  # type: ignore[misc]  # trl has no types
    """TRL's trainer, which puts EOS behind every response, without the EOS behind those that were cut off.

    A batch's own responses, each behind the next one's prompt, estimate the KL term. A last batch of one gets another beside it.
    """

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: KTOConfig, dataset_name: str) -> Dataset:
        eos, size = self._tokenizer.eos_token_id, args.per_device_train_batch_size

        def as_sampled(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            responses = zip(batch["completion_ids"], batch["finished"], strict=True)
            ids = [ids if finished or ids[-1:] != [eos] else ids[:-1] for ids, finished in responses]
            return {"completion_ids": ids, "KL_completion_ids": [ids[-1], *ids[:-1]]}

        rows = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if len(rows) % size == 1:
            rows = concatenate_datasets([rows, rows.select([0])])
        return rows.map(as_sampled, batched=True, batch_size=size)


def arguments(
    scratch: Path, settings: KTOSettings, *, model: ModelSettings, epochs: float, ratio: float, context: int, seed: int
) -> KTOConfig:
    """Return TRL's configuration for our settings, where there are `ratio` undesirable responses for each desirable one.

    A weight that is none makes λ_D n_D = λ_U n_U; the paper advises a ratio in [1, 4/3] (arXiv:2402.01306, version 1, eq. 8).
    """
    other = settings.undesirable_weight
    weight = settings.desirable_weight or (other * ratio if other else max(1.0, ratio))
    return KTOConfig(
        **shared_arguments(scratch, settings, model=model, epochs=epochs, seed=seed),
        beta=settings.beta,
        desirable_weight=weight,
        undesirable_weight=other or weight / ratio,
        precompute_ref_log_probs=True,
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
    rows = [  # shuffled here, since TRL reads them in order: neighbours estimate the KL term and must not share their prompt
        {"prompt": prompt_text(reader, it.prompt), "completion": it.response, "label": it.is_desirable, "finished": it.finished}
        for it in Random(seed).sample(verdicts, len(verdicts))
    ]
    good, bad = (sum(it.is_desirable is which for it in verdicts) for which in (True, False))
    source, revision = source_of(start)
    epochs = epochs_within(settings, rows=len(rows))
    with TemporaryDirectory() as scratch, watched("kto", steps=steps_of(epochs, settings, rows=len(rows)), log=log) as curves:
        started = time.perf_counter()
        told = arguments(Path(scratch), settings, model=model, epochs=epochs, ratio=bad / good, context=context, seed=seed)
        trainer = EndsAsSampled(
            model=load_model(source, model, on=device(), revision=revision, train=True),
            args=told,
            train_dataset=Dataset.from_list(rows),
            processing_class=reader,
            peft_config=seeded_lora(model, seed=seed),
            callbacks=[curves],
        )
        with must_move(trainer.model, stage="kto"):
            silenced(trainer).train()
        seconds, size = time.perf_counter() - started, size_of(trainer.model)
        once = sum(min(context, len(row["prompt_ids"]) + len(row["completion_ids"])) for row in trainer.train_dataset)
        save(merged(trainer.model), reader, out / "model")
    # the reference reads all once, matched and mismatched; the policy reads the mismatched in every step as well
    tokens = int(curves.last["num_tokens"])
    spent = reading(size, 2 * once + tokens).plus(learning(size, tokens))
    names = {"loss": "loss", "margin": "rewards/margins", "desirable_reward": "rewards/chosen", "kl": "kl"}
    return Outcome(
        metrics={
            **{name: curves.last[theirs] for name, theirs in names.items() if theirs in curves.last},  # a batch may lack one
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
