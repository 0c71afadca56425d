"""The stage `reward_model`: a score learnt from labels, measured on prompts it has not learnt from, and refused where it is poor.

TRL's RewardTrainer takes a row a pair, so it knows neither soft labels nor prompts whose labels share a batch and whose
responses are read once; docs/decisions/0008-reward-model.md.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from models.checkpointing import let_checkpoint
from models.fingerprint import must_move
from models.load import device, dtype, load_tokenizer
from models.lora import adapted, merged
from models.reward import centred, reward_network, save_reward_model, score_texts
from models.reward_training import Group, shard_reward_network, steps_of, train_reward_network
from models.sharding import home, is_fsdp
from models.size import size_of
from posttrain.compute import Compute, learning
from posttrain.errors import ContractError, DataError
from posttrain.feedback.labels import Label, is_equal, split_questions
from posttrain.records import Demonstration
from posttrain.reward_model.quality import check, check_enough, measured
from posttrain.settings.model import ModelSettings
from posttrain.settings.reward_model import RewardModelSettings
from tasks.evaluation.reward_model import QUALITY, Texts, scored_pairs, seconded_share, write_quality
from tasks.feedback.labels import read_labels
from tasks.training.heap import return_freed_of
from tasks.training.sharded import whole_copy
from tasks.workspace.artifacts import Log, Outcome, keep_findings
from tasks.workspace.jsonl import has_rows, read_records
from tasks.workspace.progress import bar
from tasks.workspace.quiet import quiet_libraries
from tasks.workspace.weights import source_of


def train(
    out: Path,
    log: Log,
    *,
    labels: Path,
    data: Path,
    start: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: RewardModelSettings,
    findings: Path,
    context: int,
    seed: int,
) -> Outcome:
    """Write `model/`, `trained_on.json` (ids of questions), and what held-out labels say of it: figures, scored pairs, a picture.

    Args:
        out: where to write.
        log: is told each step.
        labels: folder with `labels.jsonl`, and `agreement.json` where it is known.
        data: the dataset; its demonstrations centre the scores, the answers of its questions tell kinds of pairs.
        start: artifact of the causal model whose trunk it starts from.
        tokenizer: folder.
        model: how it is loaded.
        settings: of the reward model.
        findings: where figures, pairs and picture of a reward model stay that is refused.
        context: tokens of prompt, response and EOS; labels of longer ones are left out, and counted.
        seed: of the split, of heads and orders.

    Raises:
        DataError: there are too few questions to learn from and to measure on.
        ContractError: it is not good enough for PPO.
    """
    texts = Texts(load_tokenizer(tokenizer))
    given = read_labels(labels)
    usable = [each for each in given if max(texts.tokens(each.prompt, one) for one in (each.first, each.second)) <= context]
    learnt, held_out = _split(usable, settings, seed)
    with quiet_libraries():
        trained = _trained(log, _groups(learnt, texts), texts.reader, start=start, model=model, settings=settings, seed=seed)
        spent = [trained.compute]
        centre, demonstrations = _centre(trained.members, data, learnt, texts, settings, spent.append)
        pairs = scored_pairs(trained.members, held_out, data, texts, settings, spent.append)
        quality = measured(pairs)
        seconded = seconded_share(labels)
        write_quality(out, quality, held_out, pairs)
        try:
            check(quality, seconded=seconded, settings=settings)
        except ContractError as error:
            keep_findings(out, QUALITY, at=findings)
            raise ContractError(f"{error}. Figures, pairs and picture: {findings}") from None
        save_reward_model(trained.members, texts.reader, out / "model")
    (out / "trained_on.json").write_text(json.dumps(sorted({each.question for each in learnt}), indent=0), encoding="utf-8")
    return Outcome(
        metrics={
            **trained.figures,
            **quality.figures(),
            **({} if seconded is None else {"seconded": seconded}),
            "centre": centre,
            "demonstrations": demonstrations,
            "labels": len(learnt),
            "left_out": len(given) - len(usable),
        },
        costs={
            "train_seconds": trained.seconds,
            "trained_tokens": trained.tokens,
            **reduce(Compute.plus, spent).as_costs(),
        },
    )


def _split(labels: Sequence[Label], settings: RewardModelSettings, seed: int) -> tuple[list[Label], list[Label]]:
    """Return the labels to learn from, and those to measure on."""
    learnt, held_out = split_questions([each.question for each in labels], share=settings.train_share, seed=seed)
    chosen, others = set(learnt), set(held_out)
    check_enough({each.question for each in labels if each.question in others and not is_equal(each.preference)})
    is_learnt_from = [each for each in labels if each.question in chosen]
    asked = "one"
    if settings.equal_labels == "left_out":
        is_learnt_from = [each for each in is_learnt_from if not is_equal(each.preference)]
        asked = "one that names a better response"
    if not is_learnt_from:
        raise DataError(f"a reward model learns from labels, and there is no question with {asked}. Label more prompts")
    return is_learnt_from, [each for each in labels if each.question in others]


def _groups(labels: Sequence[Label], texts: Texts) -> list[Group]:
    """Return the labels of each question, with its different responses once each."""
    of_question: dict[str, list[Label]] = {}
    for label in labels:
        of_question.setdefault(label.question, []).append(label)
    groups = []
    for given in of_question.values():
        places: dict[tuple[int, ...], int] = {}
        pairs = []
        for label in given:
            first, second = (
                places.setdefault(tuple(texts.ids(label.prompt, text)), len(places)) for text in (label.first, label.second)
            )
            pairs.append((first, second, label.preference, label.margin or 0.0))
        groups.append(Group(responses=list(places), pairs=pairs))
    return groups


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trained:
    members: Sequence[Any]
    figures: Mapping[str, float]
    seconds: float
    tokens: int
    compute: Compute


def _trained(
    log: Log,
    groups: Sequence[Group],
    reader: PreTrainedTokenizerBase,
    *,
    start: Path,
    model: ModelSettings,
    settings: RewardModelSettings,
    seed: int,
) -> _Trained:
    """Train each member on all groups, from a head and in an order of its own."""
    source, revision = source_of(start)
    steps = steps_of(settings, groups=len(groups))
    members, losses, accuracies, tokens = [], [], [], 0
    compute = Compute()
    started = time.perf_counter()
    with bar("reward model", steps * settings.ensemble) as advance:
        for number in range(settings.ensemble):
            own_seed = seed * 1_000 + number
            made = partial(_network, source, model, revision=revision, pad=reader.pad_token_id, seed=own_seed)
            network = made(on=home(model))
            size = size_of(network)
            is_half = dtype(model) == torch.bfloat16
            if is_fsdp(model):
                shard_reward_network(network, products=torch.bfloat16 if is_half else None)
            with must_move(network, stage="reward_model"):
                for step in train_reward_network(network, groups, settings, seed=own_seed, autocast=is_half):
                    told = {"loss": step.loss, "accuracy": step.accuracy, "learning_rate": step.learning_rate}
                    log(step.step, told if number == 0 else {f"{name}_member_{number + 1}": one for name, one in told.items()})
                    advance(1, f"loss {step.loss:.3f}")
                    return_freed_of(network)
                    tokens += step.tokens
                    compute = compute.plus(learning(size, step.tokens))
                    if step.step > steps - max(1, steps // 10):
                        losses.append(step.loss)
                        accuracies.append(step.accuracy)
            # every process scores with whole members by itself
            whole = whole_copy(network, partial(made, on=device()), everywhere=True) if is_fsdp(model) else network
            members.append(merged(whole))
    return _Trained(
        members=members,
        figures={
            "loss": sum(losses) / len(losses),
            "train_accuracy": sum(accuracies) / len(accuracies),
            "steps": steps,
            "members": settings.ensemble,
        },
        seconds=time.perf_counter() - started,
        tokens=tokens,
        compute=compute,
    )


def _network(source: str, model: ModelSettings, *, revision: str | None, pad: int, seed: int, on: torch.device) -> Any:
    """Return a member before its training."""
    network = reward_network(source, model, on=on, revision=revision, pad=pad, seed=seed)
    return adapted(let_checkpoint(network, model), model, task="SEQ_CLS", seed=seed)


# --- centring --------------------------------------------------------------------------------------------------------


def _centre(
    members: Sequence[Any],
    data: Path,
    learnt: Sequence[Label],
    texts: Texts,
    settings: RewardModelSettings,
    spent: Callable[[Compute], None],
) -> tuple[float, int]:
    """Let each member subtract its mean score of the demonstrations; return the mean of these, and how many demonstrations.

    A dataset without demonstrations is centred on the preferred responses of the labels learnt from.
    """
    path = data / "demonstrations.jsonl"
    shown = [texts.whole(one.prompt, one.completion) for one in read_records(path, Demonstration)] if has_rows(path) else []
    preferred = [texts.whole(each.prompt, each.first if each.preference >= 0.5 else each.second) for each in learnt]
    centres = []
    for member in members:
        scores = score_texts([member], texts.reader, shown or preferred, batch_size=settings.score_batch_size, spent=spent)
        centres.append(sum(scores) / len(scores))
        centred(member, at=centres[-1])
    return sum(centres) / len(centres), len(shown)
