"""When new prompts count as drifted (`make monitor`). None of it enters a stage's key: it decides what is said of prompts."""

from typing import Annotated

from pydantic import Field

from posttrain.settings.section import Count, Section


class MonitorSettings(Section):
    """Drift of prompts (`make monitor`): new prompts against those of training, told apart by a classifier."""

    level: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Chance of an alarm, at most, where the new prompts are of the kind of the training prompts. At 0.05 a check that runs each
    week gives two or three false alarms a year, at most."""
    min_auc: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.55
    """AUC of the classifier below which a difference is shown and raises no alarm, however sure it is: 0.55 is what new prompts
    give of which one in ten is unlike any of training, since AUC = (1 + share) / 2. At 0.5 the p-value decides alone."""
    permutations: Annotated[int, Field(ge=99, le=4_999)] = 999
    """Random permutations of the labels that the p-value is counted over; it is never below 1 / (permutations + 1)."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Folds of the cross-validation (5 or 10: section 7.10 of Hastie, Tibshirani & Friedman, The Elements of Statistical
    Learning). Nearly equal prompts (`split.near_duplicate`) lie in one fold."""
    min_prompts: Annotated[int, Field(ge=20)] = 50
    """Different prompts that each side needs at least, nearly equal ones counted once. 50 against 1,000 see an AUC of 0.60 with a
    chance of 80 % at best, 50 against 50 one of 0.64 (docs/monitoring.md)."""
    max_prompts: Count = 1_000
    """Prompts of each side that are compared at most, drawn by `seed`: the work grows with their square, and more of them see
    differences that are too small to act on."""
