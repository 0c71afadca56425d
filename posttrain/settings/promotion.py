"""When a challenger may become the champion. None of it enters a stage's key: it decides what serves, never what a run gives."""

from typing import Annotated

from pydantic import Field

from posttrain.settings.section import NotNegative, Section, Share, WholeNumber

Ratio = Annotated[float, Field(ge=1.0, allow_inf_nan=False)]


class PromotionSettings(Section):
    """The gate: a challenger is promoted where its paired gain over the champion is shown and no guard is broken (docs/gate.md).
    A guard is broken where an interval lies beyond its limit; all guards that are samples err in 5 % together."""

    margin: NotNegative = 0.0
    """How much worse than the champion a challenger may be, in the unit of the metric: promoted where the lower bound of the gain
    is above -margin. 0: it must be better. Above 0: not worse, for a model that is cheaper or newer; each such promotion may
    lose the margin once more (docs/decisions/0022-promotion-gate.md). The first champion is compared with the base at 0."""
    max_family_loss: NotNegative = 0.02
    """What the metric may lose in a family of held-out questions, in its unit. 0.02 is `compare.margin`: two points, within which
    two models count as equal."""
    min_family_questions: Annotated[int, Field(ge=2)] = 20
    """Questions of a family, at least; a smaller one is not looked at by itself. 20, as in the groups of a comparison: below it
    an interval is too wide to say anything."""
    max_finished_loss: Share = 0.02
    """How many fewer of the sampled responses may end by themselves, as a share. 0.02, as two points of the metric: a response
    that was cut off is seldom of use, so it weighs as a wrong one does."""
    max_length_ratio: Ratio = 1.5
    """Mean tokens of a response over the champion's, at most. Each token costs and takes time, and preference methods lengthen
    responses whether or not that helps (arXiv:2310.03716). 1.5: half as much again is a change of cost that someone should want;
    training itself stops at 3 (`ppo.max_length_growth`)."""
    max_latency_ratio: Ratio = 1.5
    """Mean seconds of a response over the champion's, at most, where both were timed on one machine; 1.5 as for tokens."""
    max_reference_loss_rise: NotNegative = 1.0
    """Rise of the loss of held-out completions, nats a token, where the loss is not the metric itself. Methods that learn from
    rewards and preferences leave the demonstrations on purpose (arXiv:2402.13228), so only a rise of the perplexity by e = 2.7
    counts: a model that no longer speaks the language of its data."""
    max_new_warnings: WholeNumber = 0
    """Warnings of the data gate that the champion's data did not have. 0: what is new in the data should be looked at once;
    what has been there before is no news."""
    refuse_hacking: bool = True
    """A training whose reward rose while its gold score fell beyond chance is refused (reward hacking, arXiv:2210.10760)."""
