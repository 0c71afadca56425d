"""Samples and the labels that somebody gives them."""

from typing import Annotated, Literal

from pydantic import Field

from posttrain.settings.section import BatchSize, Count, Positive, Section, Share, WholeNumber


class SampleSettings(Section):
    """Completions drawn from the SFT model, to be labelled."""

    question_share: Share = 0.5
    """Share of the training questions that responses are sampled for, to be labelled or, if right, imitated. PPO asks the others,
    under every method, so that methods differ in their reward and not in their questions; InstructGPT keeps prompts for each step
    apart (arXiv:2203.02155), as AlpacaFarm does (arXiv:2305.14387). Where a dataset brings labels of its own nothing is sampled
    for labels, and PPO asks all questions that the reward model did not learn from. Labels that people gave since leave the share
    as it is. 0 leaves all to PPO, for a method that needs
    no samples."""
    max_questions: WholeNumber = 0
    """Questions that responses are sampled for, at most; 0: all of that share. Drawn by seed; those of a smaller number are among
    those of a larger one. The questions that PPO asks stay the same."""
    per_prompt: Annotated[int, Field(ge=2)] = 8
    """Responses a question (InstructGPT, arXiv:2203.02155, ranked 4–9)."""
    temperature: Positive = 1.0
    """1 samples from the model's own distribution."""
    batch_size: BatchSize = 512
    """Sequences generated together, at most (1,000 were five times as quick as 3,000: docs/decisions/0003-world.md). It decides
    nothing about the samples."""


class LabelSettings(Section):
    """Who prefers what among the samples (docs/feedback.md)."""

    source: Literal["auto", "simulated", "dataset", "judge", "people"] = "auto"
    """`simulated`: annotators made here, who know the right answer; `dataset`: the imported preferences, ratings and rankings;
    `judge`: a model (`judge.*`); `people`: what they said of responses to the dataset's questions (`data/<name>/labels.jsonl`),
    or a store of labels that they filled (`labels.file`); `auto`: the judge under `rlaif`, else people where they labelled the
    dataset, else the dataset's feedback where it has some, else simulated."""
    file: str = ""
    """Store of labels, JSON lines as docs/feedback.md has them, learnt from where `labels.source=people`. Under a judge it is
    what people say of the same pairs, which the report holds beside what the judge says; nothing is trained on it then. Empty:
    the labels that lie beside the dataset."""
    annotators: Count = 5
    """Simulated annotators; pairs go round."""
    flip_rate: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.05
    """Mean share of labels that a simulated annotator gets wrong (AlpacaFarm, arXiv:2305.14387, used 0.25)."""
    pairs_per_prompt: Count = 4
    """Pairs drawn from one prompt's samples, at most."""
    overlap: Share = 0.1
    """Share of the pairs that a second simulated annotator labels too, so that their agreement is known; paid for as any."""
    budget: WholeNumber = 0
    """Labels bought, at most; 0: as many as there are pairs."""
    pairs: Literal["random", "decided"] = "random"
    """Which pairs of samples are labelled, whoever labels them: `random`, any two different responses; `decided`, those of which
    one is better. That takes the right answers, which no team that needs labels has: an option for studies."""
    ties: Literal["equal", "forced", "shorter"] = "equal"
    """What simulated annotators say of two equally good samples: `equal`, that they are; `forced`, one of them by the toss of a
    coin; `shorter`, the shorter, which brings a length bias into a study on purpose."""
