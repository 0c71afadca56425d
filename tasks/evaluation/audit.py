"""The stage `audit`: what labels were worth, and whether the score that PPO raised still meant what it should."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from models.encoding import prompt_ids
from models.load import load_tokenizer, prompt_text
from posttrain.evaluation.overoptimisation import Picked, Point, Scale, best_of_n, ppo_points, scale_of
from posttrain.feedback.bias import label_figures
from posttrain.feedback.labels import Label
from posttrain.graders import Sample, build_grader
from posttrain.records import Question
from posttrain.rl.rewards import rewarded
from posttrain.settings.ppo import PPOSettings
from posttrain.statistics.figures import flattened
from posttrain.statistics.intervals import Interval
from tasks.evaluation.audit_picture import AUDIT_PICTURE, Drawing, draw
from tasks.feedback.labels import read_labels
from tasks.rewards.sources.model import ModelReward
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import read_rows
from tasks.workspace.quiet import quiet_libraries

FIGURES = "audit.json"
MOST_QUESTIONS = 2_000
"""Questions whose samples are scored, at most, whatever is asked for: beyond it intervals hardly narrow."""

Scores = list[list[float]]
"""Of each question's samples."""


def audit(
    out: Path,
    log: Log,
    *,
    title: str,
    proxy_name: str,
    samples: Path | None,
    labels: Path | None,
    reward: Path | None,
    ppo: Path,
    tokenizer: Path,
    settings: PPOSettings,
    max_questions: int,
    seed: int,
) -> Outcome:
    """Write `audit.json`, every figure, and `audit.png`, proxy and gold over √KL; what is undefined is left out, with the reason.

    Args:
        out: where to write.
        log: unused; an audit has no curve.
        title: of the picture, such as "rlhf on world, seed 0".
        proxy_name: what rewarded PPO, in words; whatever is simulated in it is called so.
        samples: artifact of the samples of the model that PPO started from; None where nothing was sampled.
        labels: artifact of the labels that the reward model learnt from; None without labels.
        reward: artifact of the reward model; None where PPO was rewarded by something else.
        ppo: artifact of the PPO run.
        tokenizer: folder.
        settings: of PPO.
        max_questions: whose samples are scored, at most; 0 for no limit but `MOST_QUESTIONS`. Where a large model answers few
            questions in an evaluation, scoring the samples of all would take longer than that.
        seed: of the choice of questions where there are more.
    """
    reader = load_tokenizer(tokenizer)
    told = [] if labels is None else read_labels(labels)
    most = min(max_questions or MOST_QUESTIONS, MOST_QUESTIONS)
    found, scales, left_out = _best_of_n(samples, reward, reader, most=most, seed=seed)
    curve = list(read_rows(ppo / "curves.jsonl"))
    points, smooth = ppo_points(curve), ppo_points(curve, over=settings.patience)
    figures: dict[str, Any] = {
        "labels": label_figures(told, length=_token_lengths(reader, told).__getitem__) if told else None,
        "scales": None if scales is None else {"proxy": asdict(scales[0]), "gold": asdict(scales[1])},
        "best_of_n": [_as_json(one, scales) for one in found] or None,
        "ppo": [asdict(point) | {"sqrt_kl": point.sqrt_kl} for point in points],
        "end": _end(points, smooth[-1], scales),
        "left_out": left_out,
    }
    (out / FIGURES).write_text(json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    drawing = Drawing(title=title, proxy_name=proxy_name, points=points, smooth=smooth, best_of_n=found, scales=scales)
    (out / AUDIT_PICTURE).write_bytes(draw(drawing))
    return Outcome(metrics=_metrics(figures, found))


def _best_of_n(
    samples: Path | None, reward: Path | None, reader: Any, *, most: int, seed: int
) -> tuple[list[Picked], tuple[Scale, Scale] | None, dict[str, str]]:
    """Return best-of-n, the scales of proxy and gold, and what had to be left out, with the reason."""
    if reward is None:
        return [], None, {"best_of_n": "PPO was not rewarded by a reward model made here, so none scored the samples"}
    if samples is None:
        return [], None, {"best_of_n": "nothing was sampled from the model that PPO started from"}
    scored = _scores(samples, reward, reader, most=most, seed=seed)
    if scored is None:
        return [], None, {"best_of_n": "fewer than two questions have answers and were kept from the reward model"}
    proxy, gold = scale_of(scored[0]), scale_of(scored[1])
    found = best_of_n(*scored)
    if proxy is None or gold is None:
        return found, None, {"gap": "proxy or gold is the same for all samples of each question: there is no scale to compare on"}
    return found, (proxy, gold), {}


def _token_lengths(reader: Any, labels: Sequence[Label]) -> dict[str, int]:
    """Return the tokens of every labelled response."""
    texts = list(dict.fromkeys(text for label in labels for text in (label.first, label.second)))
    ids = prompt_ids(reader, texts)
    return {text: len(row) for text, row in zip(texts, ids, strict=True)}


def _scores(samples: Path, reward: Path, reader: Any, *, most: int, seed: int) -> tuple[Scores, Scores] | None:
    """Return proxy and gold scores of each question's samples, for questions that the reward model did not learn from."""
    learnt = set(json.loads((reward / "trained_on.json").read_text(encoding="utf-8")))
    asked = [(Question.model_validate(row["question"]), row["responses"]) for row in read_rows(samples / "samples.jsonl")]
    asked = [(question, responses) for question, responses in asked if question.answers and question.id not in learnt]
    if len(asked) < 2:
        return None
    asked = asked if len(asked) <= most else Random(f"{seed}/audit").sample(asked, most)
    # a model often repeats itself: each different response is scored once
    rows = list(dict.fromkeys((place, text) for place, (_, responses) in enumerate(asked) for text, _ in responses))
    records = [asked[place][0].model_dump(mode="json") for place, _ in rows]
    texts = [text for _, text in rows]
    folder = reward / "model"
    with quiet_libraries():
        score = ModelReward(name=f"model:{folder}", path=folder, weights="").load()
        prompts = [prompt_text(reader, asked[place][0].prompt) for place, _ in rows]
        proxy = dict(zip(rows, rewarded(score, "model", prompts, texts, records).values, strict=True))
    grades = build_grader("answer").grade([Sample(text, record) for text, record in zip(texts, records, strict=True)])
    gold = {row: float(grade.is_right) for row, grade in zip(rows, grades, strict=True)}
    given = [[(place, text) for text, _ in responses] for place, (_, responses) in enumerate(asked)]
    return [[proxy[row] for row in one] for one in given], [[gold[row] for row in one] for one in given]


def _as_json(picked: Picked, scales: tuple[Scale, Scale] | None) -> dict[str, Any]:
    told = {name: getattr(picked, name).as_dict() for name in ("proxy", "gold", "proxy_gain", "gold_gain")}
    row = {"n": picked.n, "kl": picked.kl, **told}
    return row if scales is None else row | {"in_deviations": _gains(picked.proxy.estimate, picked.gold.estimate, scales)}


def _gains(proxy: float, gold: float, scales: tuple[Scale, Scale]) -> dict[str, float]:
    """Return what proxy and gold gained, in deviations of the starting model's samples, and what one gained more."""
    gains = scales[0].of(proxy), scales[1].of(gold)
    return {"proxy_gain": gains[0], "gold_gain": gains[1], "gap": gains[0] - gains[1]}


def _end(points: Sequence[Point], last: Point, scales: tuple[Scale, Scale] | None) -> dict[str, float]:
    """Return where PPO ended, averaged over its last updates, beside where it began."""
    found: dict[str, Interval | float | None] = {
        "kl": last.kl,
        "proxy_start": points[0].proxy if scales is None else scales[0].mean,
        "proxy": last.proxy,
        "gold_start": points[0].gold if scales is None else scales[1].mean,
        "gold": last.gold,
    }
    gains = {} if scales is None or last.gold is None else _gains(last.proxy, last.gold, scales)
    return flattened(found) | gains


def _metrics(figures: Mapping[str, Any], found: Sequence[Picked]) -> dict[str, float]:
    """Return the figures that a run is found by: those of labels, best-of-N and PPO's end, by prefix."""
    parts: dict[str, Mapping[str, Any]] = {
        "labels": figures["labels"] or {},
        "end": figures["end"],
    }
    flat = {f"{part}_{name}": value for part, values in parts.items() for name, value in values.items() if value is not None}
    if found:
        best = found[-1]
        flat |= {"best_of_n": float(best.n), **flattened({"best_of_n_gold": best.gold, "best_of_n_gold_gain": best.gold_gain})}
    return flat
