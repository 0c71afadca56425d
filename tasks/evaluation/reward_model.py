"""What held-out labels say of a reward model: figures, scored pairs and a picture."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase

from models.encoding import ids_apart, prompt_ids
from models.load import prompt_text
from models.reward import score_texts
from posttrain.compute import Compute
from posttrain.feedback.labels import Label, is_equal
from posttrain.graders import Sample, build_grader
from posttrain.records import Prompt, Question
from posttrain.reward_model.quality import Quality, ScoredPair
from posttrain.settings.reward_model import RewardModelSettings
from tasks.workspace.jsonl import has_rows, read_records, write_rows

QUALITY = ("quality.json", "pairs.jsonl", "reliability.png")
"""Figures, scored pairs and picture."""
POINT, LINE, BARS = "#0072B2", "#333333", "#E69F00"


def write_quality(out: Path, quality: Quality, labels: Sequence[Label], pairs: Sequence[ScoredPair]) -> None:
    """Write what is known of a reward model, whether it is good enough or not."""
    figures, rows, drawn = QUALITY
    (out / figures).write_text(json.dumps(quality.figures(), indent=1) + "\n", encoding="utf-8")
    write_rows(out / rows, (_row(label, pair) for label, pair in zip(labels, pairs, strict=True)))
    (out / drawn).write_bytes(picture(quality))


@dataclass
class Texts:
    """The text of each prompt as the model sees it, and how many tokens it takes with a response and EOS."""

    reader: PreTrainedTokenizerBase
    _prompts: dict[Prompt, str] = field(default_factory=dict)
    _ids: dict[str, list[int]] = field(default_factory=dict)

    def whole(self, prompt: Prompt, response: str) -> str:
        """Return prompt and response as one text."""
        if prompt not in self._prompts:
            self._prompts[prompt] = prompt_text(self.reader, prompt)
        return self._prompts[prompt] + response

    def ids(self, prompt: Prompt, response: str) -> list[int]:
        """Return the tokens of prompt, response and EOS."""
        text = self.whole(prompt, response)
        if text not in self._ids:
            self._ids[text] = [*prompt_ids(self.reader, [text])[0], self.reader.eos_token_id]
        return self._ids[text]

    def tokens(self, prompt: Prompt, response: str) -> int:
        """Return how many those are."""
        return len(self.ids(prompt, response))

    def response_tokens(self, response: str) -> int:
        """Return the tokens of a response alone."""
        return len(ids_apart(self.reader, response))


def scored_pairs(
    members: Sequence[Any],
    labels: Sequence[Label],
    data: Path,
    texts: Texts,
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


def seconded_share(labels: Path) -> float | None:
    """Return the chance that another annotator names the response which one has named, where the label stage could tell."""
    path = labels / "agreement.json"
    told = json.loads(path.read_text(encoding="utf-8"))["seconded"] if path.is_file() else None
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
