"""The stage `reward_model`: a score learnt from labels, measured on prompts it has not learnt from, and refused where it is poor.

TRL's RewardTrainer takes a row a pair, so it knows neither soft labels nor prompts whose labels share a batch and whose
responses are read once; docs/decisions/0008-reward-model.md.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from peft import get_peft_model
from transformers import PreTrainedTokenizerBase

from models.fingerprint import must_move
from models.load import device, dtype, load_tokenizer, prompt_text
from models.lora import lora, merged
from models.reward import Group, centred, reward_network, save_reward_model, score_texts, steps_of, train_reward_network
from models.size import size_of
from posttrain.compute import Compute, learning
from posttrain.errors import ContractError, DataError
from posttrain.feedback.labels import Label, is_equal, split_questions
from posttrain.graders import Sample, build_grader
from posttrain.records import Demonstration, Prompt, Question
from posttrain.reward_model.quality import Quality, ScoredPair, check, check_enough, measured
from posttrain.settings.model import ModelSettings
from posttrain.settings.reward_model import RewardModelSettings
from tasks.feedback.labels import read_labels
from tasks.workspace.artifacts import Log, Outcome, keep_findings
from tasks.workspace.jsonl import has_rows, read_records, write_rows
from tasks.workspace.progress import bar
from tasks.workspace.quiet import quiet_libraries
from tasks.workspace.weights import source_of

QUALITY = ("quality.json", "pairs.jsonl", "reliability.png")
"""Figures, scored pairs and picture."""
POINT, LINE, BARS = "#0072B2", "#333333", "#E69F00"


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
    texts = _Texts(load_tokenizer(tokenizer))
    given = read_labels(labels)
    usable = [each for each in given if max(texts.tokens(each.prompt, one) for one in (each.first, each.second)) <= context]
    learnt, held_out = _split(usable, settings, seed)
    with quiet_libraries():
        trained = _trained(log, _groups(learnt, texts), texts.reader, start=start, model=model, settings=settings, seed=seed)
        spent = [trained.compute]
        centre, demonstrations = _centre(trained.members, data, learnt, texts, settings, spent.append)
        pairs = _scored(trained.members, held_out, data, texts, settings, spent.append)
        quality = measured(pairs)
        agreement = _agreement(labels)
        _write_quality(out, quality, held_out, pairs)
        try:
            check(quality, agreement=agreement, settings=settings)
        except ContractError as error:
            keep_findings(out, QUALITY, at=findings)
            raise ContractError(f"{error}. Figures, pairs and picture: {findings}") from None
        save_reward_model(trained.members, texts.reader, out / "model")
    (out / "trained_on.json").write_text(json.dumps(sorted({each.question for each in learnt}), indent=0), encoding="utf-8")
    return Outcome(
        metrics={
            **trained.figures,
            **quality.figures(),
            **({} if agreement is None else {"agreement": agreement}),
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


def _write_quality(out: Path, quality: Quality, labels: Sequence[Label], pairs: Sequence[ScoredPair]) -> None:
    """Write what is known of a reward model, whether it is good enough or not."""
    figures, rows, drawn = QUALITY
    (out / figures).write_text(json.dumps(quality.figures(), indent=1) + "\n", encoding="utf-8")
    write_rows(out / rows, (_row(label, pair) for label, pair in zip(labels, pairs, strict=True)))
    (out / drawn).write_bytes(picture(quality))


@dataclass
class _Texts:
    """The text of each prompt as the model sees it, and how many tokens it takes with a response and EOS."""

    reader: PreTrainedTokenizerBase
    _prompts: dict[Prompt, str] = field(default_factory=dict)
    _ids: dict[str, list[int]] = field(default_factory=dict)

    def whole(self, prompt: Prompt, response: str) -> str:
        if prompt not in self._prompts:
            self._prompts[prompt] = prompt_text(self.reader, prompt)
        return self._prompts[prompt] + response

    def ids(self, prompt: Prompt, response: str) -> list[int]:
        text = self.whole(prompt, response)
        if text not in self._ids:
            self._ids[text] = self.reader(text + str(self.reader.eos_token), return_attention_mask=False)["input_ids"]
        return self._ids[text]

    def tokens(self, prompt: Prompt, response: str) -> int:
        return len(self.ids(prompt, response))

    def response_tokens(self, response: str) -> int:
        return len(self.reader(response, add_special_tokens=False, return_attention_mask=False)["input_ids"])


def _split(labels: Sequence[Label], settings: RewardModelSettings, seed: int) -> tuple[list[Label], list[Label]]:
    """Return the labels to learn from, and those to measure on."""
    learnt, held_out = split_questions([each.question for each in labels], share=settings.train_share, seed=seed)
    chosen, others = set(learnt), set(held_out)
    check_enough({each.question for each in labels if each.question in others and not is_equal(each.preference)})
    if not chosen:
        raise DataError("a reward model learns from labels, and there is no question with one. Label more prompts")
    return [each for each in labels if each.question in chosen], [each for each in labels if each.question in others]


def _groups(labels: Sequence[Label], texts: _Texts) -> list[Group]:
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
            network = reward_network(source, model, on=device(), revision=revision, pad=reader.pad_token_id, seed=own_seed)
            network = _adapted(network, model, own_seed)
            size = size_of(network)
            is_half = device().type == "cuda" and dtype(model) == torch.bfloat16
            with must_move(network, stage="reward_model"):
                for step in train_reward_network(network, groups, settings, seed=own_seed, autocast=is_half):
                    told = {"loss": step.loss, "accuracy": step.accuracy, "learning_rate": step.learning_rate}
                    log(step.step, told if number == 0 else {f"{name}_member_{number + 1}": one for name, one in told.items()})
                    advance(1, f"loss {step.loss:.3f}")
                    tokens += step.tokens
                    compute = compute.plus(learning(size, step.tokens))
                    if step.step > steps - max(1, steps // 10):
                        losses.append(step.loss)
                        accuracies.append(step.accuracy)
            members.append(merged(network))
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


def _adapted(network: Any, model: ModelSettings, seed: int) -> Any:
    adapters = lora(model, task="SEQ_CLS")
    if adapters is None:
        return network
    torch.manual_seed(seed)
    return get_peft_model(network, adapters)


# --- measuring --------------------------------------------------------------------------------------------------------


def _centre(
    members: Sequence[Any],
    data: Path,
    learnt: Sequence[Label],
    texts: _Texts,
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


def _scored(
    members: Sequence[Any],
    labels: Sequence[Label],
    data: Path,
    texts: _Texts,
    settings: RewardModelSettings,
    spent: Callable[[Compute], None],
) -> list[ScoredPair]:
    """Return each label with the scores of its responses, every response scored once."""
    sides = dict.fromkeys(texts.whole(each.prompt, text) for each in labels for text in (each.first, each.second))
    scores = dict(
        zip(
            sides, score_texts(members, texts.reader, list(sides), batch_size=settings.score_batch_size, spent=spent), strict=True
        )
    )
    kinds_of = _kinds(labels, data)
    pairs = []
    for label in labels:
        first_tokens, second_tokens = texts.response_tokens(label.first), texts.response_tokens(label.second)
        pairs.append(
            ScoredPair(
                question=label.question,
                first=label.first,
                second=label.second,
                first_score=scores[texts.whole(label.prompt, label.first)],
                second_score=scores[texts.whole(label.prompt, label.second)],
                first_tokens=first_tokens,
                second_tokens=second_tokens,
                preference=label.preference,
                gold=label.gold,
                kinds=(_by_length(label, first_tokens - second_tokens), *kinds_of(label)),
            )
        )
    return pairs


def _by_length(label: Label, longer: int) -> str:
    if longer == 0:
        return "same length"
    return "longer is better" if (longer > 0) == (label.preference > 0.5) else "shorter is better"


def _kinds(labels: Sequence[Label], data: Path) -> Callable[[Label], list[str]]:
    """Return what tells the kinds of a label's pair: by answers where they are known, by certainty, by margin."""
    path = data / "questions.jsonl"
    asked = {each.question for each in labels}
    questions = (one for one in read_records(path, Question) if one.id in asked) if has_rows(path) else ()
    answers = {one.id: one.answers for one in questions if one.answers}
    grader = build_grader("answer")
    margins = [each.margin for each in labels if each.margin is not None]
    usual = median(margins) if margins else 0.0

    def kinds(label: Label) -> list[str]:
        told = []
        if label.question in answers:
            record = {"id": label.question, "answers": answers[label.question]}
            first, second = (
                grade.is_right for grade in grader.grade([Sample(label.first, record), Sample(label.second, record)])
            )
            if first != second:
                told.append("right against wrong")
            elif label.gold is not None and not is_equal(label.gold):
                told.append("finished against unfinished")
            else:
                told.append("both right" if first else "both wrong")
        if 0 < label.preference < 1:
            told.append("clear label" if abs(label.preference - 0.5) >= 0.25 else "close label")
        if label.margin is not None:
            told.append("larger margin" if label.margin > usual else "smaller margin")
        return told

    return kinds


def _agreement(labels: Path) -> float | None:
    """Return the chance that two annotators make one choice, where the label stage could tell."""
    path = labels / "agreement.json"
    told = json.loads(path.read_text(encoding="utf-8"))["agreement"] if path.is_file() else None
    return None if told is None else float(told["estimate"])


def _row(label: Label, pair: ScoredPair) -> dict[str, Any]:
    prompt = label.prompt if isinstance(label.prompt, str) else [message.model_dump() for message in label.prompt]
    return {
        "id": label.id,
        "question": pair.question,
        "prompt": prompt,
        "first": pair.first,
        "second": pair.second,
        "first_score": pair.first_score,
        "second_score": pair.second_score,
        "first_tokens": pair.first_tokens,
        "second_tokens": pair.second_tokens,
        "preference": pair.preference,
        "gold": pair.gold,
        "annotator": label.annotator,
        "kinds": list(pair.kinds),
    }


def picture(quality: Quality) -> bytes:
    """Draw how often choices of each confidence are right, above how many there are; returns a PNG."""
    figure = Figure(figsize=(5.2, 5.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    points = quality.points
    above.plot([0.5, 1], [0.5, 1], color=LINE, linewidth=1, linestyle=":", label="perfectly calibrated")
    above.plot([one.confidence for one in points], [one.accuracy for one in points], "o-", color=POINT, label="reward model")
    above.set_ylabel("share of labels that agree")
    above.set_ylim(0, 1.02)
    interval = quality.accuracy
    above.set_title(
        f"accuracy {interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}], calibration error {quality.ece:.3f}",
        fontsize=10,
    )
    above.legend(frameon=False, fontsize=9, loc="lower right")
    below.bar(
        [one.low for one in points],
        [one.count for one in points],
        width=[0.96 * (one.high - one.low) for one in points],
        align="edge",
        color=BARS,
    )
    below.set_ylabel("labels")
    below.set_xlabel("confidence in the response with the higher score")
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Reward model on held-out pairs", fontsize=12)
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
