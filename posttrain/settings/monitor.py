"""When new prompts count as drifted, and a champion's score as fallen (`make monitor`). None of it enters a stage's key: it
decides what is said of prompts and answers."""

from typing import Annotated

from pydantic import Field

from posttrain.settings.section import Count, Section, Share, WholeNumber


class MonitorSettings(Section):
    """Drift (`make monitor`): new prompts against those of training, told apart by a classifier; and the champion's answers to
    those that have one, against its held-out accuracy."""

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
    score_questions: WholeNumber = 500
    """New questions with an answer that the champion is asked at most, drawn by `seed`; 0: none, and no model is loaded. At 80 %
    accuracy against 1,000 held-out questions, 500 show a fall of 8 points in 80 % of the cases, 1,000 one of 7, and no number
    one below 5.5, `score_margin` included (docs/monitoring.md)."""
    score_margin: Share = 0.02
    """How much lower than its held-out accuracy the champion's accuracy on new questions may be, as a share: an alarm is raised
    where the upper bound of the difference, at 1 - `level`, lies below minus that. 0.02 is `compare.margin`: two points, within
    which two models count as equal. It also covers that a champion was chosen for a high held-out accuracy, part of it luck."""
