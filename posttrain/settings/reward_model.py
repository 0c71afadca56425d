"""The reward model that learns a score from labels."""

from typing import Annotated, Literal

from pydantic import Field

from posttrain.settings.section import BatchSize, Count, NotNegative, Positive, Section, Share


class RewardModelSettings(Section):
    """A network with one score, trained on labels so that the preferred response scores higher (Bradley and Terry 1952)."""

    train_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    """Share of the labelled prompts that it learns from. The others measure it."""
    epochs: Positive = 12.0
    """Passes over the labels, for the tiny base (docs/decisions/0008-reward-model.md); more than one overfit a large model
    (arXiv:2203.02155)."""
    batch_size: Count = 8
    """Prompts a step; all labels of a prompt stay in one batch (arXiv:2203.02155)."""
    learning_rate: Positive = 2e-3
    """Peak, for the tiny base (docs/decisions/0008-reward-model.md); about 1e-5 suits models of billions of weights."""
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """β₂ of AdamW: 0.999 averages over more steps than there are (docs/decisions/0008-reward-model.md)."""
    warmup_ratio: Share = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly afterwards."""
    max_steps: Count = 800
    """Optimiser steps at most, so that large data stay a matter of minutes on a laptop; raise it where there is a GPU."""
    device_batch_size: BatchSize = 128
    """Responses a device takes at once, at most, though never less than those of one prompt; the rest of a batch is
    accumulated."""
    token_weight: NotNegative = 1.0
    """Weight of a second loss, on the mean score of the tokens from the first in which two responses differ: it says where one
    goes wrong, so the score at the end is learnt from fewer labels (docs/decisions/0008-reward-model.md). What scores a response
    is the last token alone."""
    mean_over: Literal["prompts", "labels"] = "prompts"
    """What the loss of a step is a mean over: `prompts`, each with the mean over its own labels, 1 / (K choose 2) in eq. 1 of
    arXiv:2203.02155; `labels`, so that a prompt counts as much as it has labels."""
    equal_labels: Literal["learnt", "left_out"] = "learnt"
    """Labels that say that two responses are equally good: `learnt`, both are to score alike; `left_out`, with the responses that
    no other label names. They take as long as other labels, and name nothing better. What is held out keeps them."""
    margin_weight: NotNegative = 0.0
    """Difference of scores asked for in a unit of a label's margin (eq. 2 of arXiv:2307.09288, with margins of at most 1 or 3);
    0: none, as each annotator has an own unit, and margins make scores surer than the labels are."""
    ensemble: Count = 1
    """Reward models trained on one set of labels from different seeds; their mean is the reward (arXiv:2310.02743)."""
    min_share_of_agreement: Share = 0.4
    """Share that its accuracy beyond chance must reach before PPO may use it, of the chance beyond one half that another
    annotator names the response which one has named."""
    max_calibration_error: Share = 0.2
    """Expected calibration error on held-out pairs (arXiv:1706.04599), at most."""
    max_length_correlation: Share = 0.8
    """Correlation of score and length among the responses to a prompt, at most, either way."""
    score_batch_size: BatchSize = 256
    """Responses scored together, at most."""
