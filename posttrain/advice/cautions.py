"""The rules that warn: what may be wrong with data, base or machine, whatever method is taken."""

from posttrain.advice.memory import memory_of
from posttrain.advice.order import is_subjective
from posttrain.advice.rule import CHECKED, EACH, EVERY, NAMED, OFFLINE, PEOPLE, PROMPTED, REWARDED, Effect, Rule
from posttrain.advice.situation import LONG_ANSWER, Situation
from posttrain.methods import Method

FEW_HELD_OUT = 200
"""Below it the central limit theorem serves badly (arXiv:2503.01747), and only large effects are seen; the number is ours."""
LOW_ALPHA = 0.667
"""Krippendorff's lowest α for tentative conclusions (Content Analysis, second edition, 2004)."""
CUT_SHARE = 0.05
"""Share of responses beyond the limit from which it is told."""
REPEATED = 0.1
"""Share of near-duplicate prompts from which it is told."""
SMALL_FOR_PROMPTS = 100_000_000
"""Weights below which examples in a prompt help little. A rule of thumb of ours: larger models make better use of them
(arXiv:2005.14165, fig. 1.2)."""
LARGE_FOR_CPU = 100_000_000
"""Weights from which sampling on a CPU takes hours: 135 M wrote 65 to 204 tokens a second on two cores, measured."""
WORLD = "world"
"""The dataset that the tiny base is made for."""


def measures_little(method: Method, s: Situation) -> bool:
    """The held-out set is small."""
    return 2 <= s.measured < FEW_HELD_OUT


def cannot_be_scored(method: Method, s: Situation) -> bool:
    """No held-out question has an answer."""
    return s.held_out > 0 and not s.held_out_answered


def is_cut_off(method: Method, s: Situation) -> bool:
    """Many responses are longer than what evaluation lets a model write."""
    return s.beyond_limit >= CUT_SHARE


def exceeds_context(method: Method, s: Situation) -> bool:
    """A long prompt leaves a response less room than `evaluate.max_new_tokens`."""
    return s.prompt_tokens + s.asked.max_new_tokens > s.base.context


def repeats_itself(method: Method, s: Situation) -> bool:
    """Many training prompts nearly equal another."""
    return s.near_duplicates >= REPEATED


def is_no_language_model(method: Method, s: Situation) -> bool:
    """The tiny base is to learn from other data than the world that it is made for."""
    return s.base.is_tiny and s.dataset != WORLD


def has_rates_of_tiny(method: Method, s: Situation) -> bool:
    """The base is another than the one that the default learning rates are for."""
    return not s.base.is_tiny


def likely_exceeds_memory(method: Method, s: Situation) -> bool:
    """A device batch of long rows would likely exceed the memory, though the networks fit."""
    needed = memory_of(method, s)
    return needed.least <= s.machine.memory < needed.likely


def is_slow(method: Method, s: Situation) -> bool:
    """A large base samples on a CPU."""
    return not s.machine.has_gpu and s.base.weights >= LARGE_FOR_CPU


def cannot_learn_from_prompts(method: Method, s: Situation) -> bool:
    """The base is too small to learn from examples in its prompt."""
    return s.base.weights < SMALL_FOR_PROMPTS


def shots_may_not_fit(method: Method, s: Situation) -> bool:
    """The shortest demonstration and the longest held-out prompt leave no room for a response."""
    return s.shortest_shot > 0 and s.shortest_shot + s.longest_question + s.asked.max_new_tokens > s.base.context


def is_partly_checkable(method: Method, s: Situation) -> bool:
    """Only some questions have answers."""
    return 0 < s.answered < s.questions


def has_prose_answers(method: Method, s: Situation) -> bool:
    """More than a tenth of the answers is prose."""
    return 10 * s.long_answers > s.answered > 0


def has_choices(method: Method, s: Situation) -> bool:
    """At least half of the answers are letters of a choice."""
    return 0 < s.answered <= 2 * s.choices


def pays_for_wrong_choices(method: Method, s: Situation) -> bool:
    """Wrong answers earn partial credit, and answers are choices."""
    return s.asked.partial_credit > 0 and s.choices > 0


def people_disagree(method: Method, s: Situation) -> bool:
    """Annotators agree too little."""
    return s.alpha is not None and s.alpha < LOW_ALPHA and s.labels_by(method) in ("dataset", "people")


def agreement_is_unknown(method: Method, s: Situation) -> bool:
    """No pair was judged by two annotators."""
    return s.labels > 0 and not s.shared_pairs and s.labels_by(method) in ("dataset", "people")


def is_off_policy(method: Method, s: Situation) -> bool:
    """The pairs are the dataset's, written by somebody else than the model in training."""
    return s.labels_by(method) == "dataset" and s.labels > 0


WARNINGS: tuple[Rule, ...] = (
    Rule(
        "small_held_out",
        Effect.WARN,
        EVERY,
        measures_little,
        says=f"fewer than {FEW_HELD_OUT} held-out questions",
        reason="{s.measured:,} held-out questions show large effects only (the table of effects below)",
        source="arXiv:2503.01747; the number is ours",
        remedy="hold out more (split.held_out in params.yaml)",
    ),
    Rule(
        "not_scored",
        Effect.WARN,
        EVERY,
        cannot_be_scored,
        says="no held-out question has an answer",
        reason="none of the {s.held_out:,} held-out questions has an answer, so there is no accuracy: what is told is how likely "
        "a model finds people's completions",
        source="docs/decisions/0010-evaluation.md",
        remedy='let a judge compare answers: SET="evaluate.judge=true judge.model=…"',
    ),
    Rule(
        "cut_off",
        Effect.WARN,
        EVERY,
        is_cut_off,
        says=f"{100 * CUT_SHARE:.0f} % of the responses or more are longer than `evaluate.max_new_tokens`",
        reason="{s.beyond_limit:.0%} of the responses to learn from are longer than evaluate.max_new_tokens "
        "({s.asked.max_new_tokens:,}), so a model that imitates them is cut off and counts as wrong",
        source="our rule of thumb",
        remedy="evaluate.max_new_tokens and ppo.max_new_tokens of {s.limit_needed:,} hold 95 % of them "
        "(model.context must be larger)",
    ),
    Rule(
        "long_prompts",
        Effect.WARN,
        EVERY,
        exceeds_context,
        says="5 % of the prompts or more leave less room than `evaluate.max_new_tokens`",
        reason="5 % of the prompts or more have {s.prompt_tokens:,} tokens at least, which with evaluate.max_new_tokens "
        "({s.asked.max_new_tokens:,}) is more than the context of {s.base.context:,}",
        source="our rule of thumb",
        remedy="raise model.context, if the base holds more",
    ),
    Rule(
        "near_duplicates",
        Effect.WARN,
        EVERY,
        repeats_itself,
        says=f"{100 * REPEATED:.0f} % of the prompts or more nearly equal an earlier one",
        reason="{s.near_duplicates:.0%} of the {s.questions:,} training prompts nearly equal an earlier one, so they teach less "
        "than their number says",
        source="MinHash over word 3-grams, `split.near_duplicate`",
    ),
    Rule(
        "no_language_model",
        Effect.WARN,
        EVERY,
        is_no_language_model,
        says="the tiny base on other data than the default world",
        reason="model.base=tiny is a network of {s.base.weights:,} weights made on the spot, no pretrained language model: what "
        "is found with it says little of a real one",
        source="docs/decisions/0003-world.md",
        remedy='SET="model.base=<directory or hub id>"',
    ),
    Rule(
        "rates_of_the_tiny_base",
        Effect.WARN,
        EVERY,
        has_rates_of_tiny,
        says="a base other than the tiny one",
        reason="the default learning rates are those of the tiny base, far too high for {s.base.weights:,} weights",
        source="arXiv:2305.18290; arXiv:2401.08967",
        remedy="set them (docs/settings.md gives each one's literature), or tune every method alike",
    ),
    Rule(
        "memory_is_tight",
        Effect.WARN,
        EACH,
        likely_exceeds_memory,
        says="a device batch of long rows would likely exceed the memory",
        reason="a device batch of long rows would likely take {likely} GB in all, and there are {memory} GB",
        source="arXiv:1910.02054; arXiv:2205.05198",
        remedy="lower the device_batch_size, set model.gradient_checkpointing=on, or train adapters (model.lora_rank=16)",
    ),
    Rule(
        "slow_on_cpu",
        Effect.WARN,
        REWARDED,
        is_slow,
        says=f"{LARGE_FOR_CPU // 1_000_000} M weights or more without a GPU",
        reason="it samples in every update, and {s.base.weights:,} weights on a CPU are slow at that (135 M: 65 to 204 tokens a "
        "second on two cores)",
        source="measured",
        remedy="take a GPU, or begin with fewer updates (ppo.updates)",
    ),
    Rule(
        "too_small_to_prompt",
        Effect.WARN,
        PROMPTED,
        cannot_learn_from_prompts,
        says=f"fewer than {SMALL_FOR_PROMPTS // 1_000_000} M weights",
        reason="a base of {s.base.weights:,} weights hardly learns from examples in its prompt",
        source="our rule of thumb, after arXiv:2005.14165, fig. 1.2",
    ),
    Rule(
        "no_room_for_shots",
        Effect.WARN,
        PROMPTED,
        shots_may_not_fit,
        says="one demonstration, the longest held-out prompt and a response exceed the context",
        reason="the shortest demonstration ({s.shortest_shot:,} tokens), the longest held-out prompt ({s.longest_question:,}) "
        "and a response ({s.asked.max_new_tokens:,}) are more than the context of {s.base.context:,}",
        source="posttrain's own check",
        remedy="raise model.context, or lower evaluate.max_new_tokens",
    ),
    Rule(
        "partly_checkable",
        Effect.WARN,
        CHECKED,
        is_partly_checkable,
        says="only some training questions have an answer",
        reason="only {s.answered:,} of {s.questions:,} training questions have an answer; the others are left out",
        source="our rule of thumb",
    ),
    Rule(
        "prose_answers",
        Effect.WARN,
        CHECKED,
        has_prose_answers,
        says=f"more than a tenth of the answers has more than {LONG_ANSWER} words and is no number",
        reason="{s.long_answers:,} of {s.answered:,} answers are prose, which a program compares word for word",
        source="docs/graders.md",
        remedy="cut the data's answers down to the final one, or name a grader that compares meaning (docs/graders.md)",
    ),
    Rule(
        "choices_can_be_guessed",
        Effect.WARN,
        CHECKED,
        has_choices,
        says="at least half of the answers are letters of a choice",
        reason="{s.choices:,} of {s.answered:,} answers are letters of a choice: a guess is often right, and then its wrong "
        "reasoning is rewarded too",
        source="arXiv:2401.08967",
    ),
    Rule(
        "partial_credit_for_choices",
        Effect.WARN,
        NAMED,
        pays_for_wrong_choices,
        says="`ppo.partial_credit` above 0, and choices among the answers",
        reason="ppo.partial_credit={s.asked.partial_credit:g} with {s.choices:,} choices: where the grader pays for any wrong "
        "letter, guessing is learnt",
        source="arXiv:2401.08967, its own case of reward hacking",
        remedy="ppo.partial_credit=0",
    ),
    Rule(
        "people_disagree",
        Effect.WARN,
        PEOPLE,
        people_disagree,
        says=f"Krippendorff's α below {LOW_ALPHA:g}",
        reason="the {s.annotators:,} annotators agree little (Krippendorff's α {s.alpha:.2f}): no reward model can be more right "
        "than its labels agree",
        source="Krippendorff 2004; people agree in 65 to 77 % of pairs in the literature",
        remedy="write down what is better, and label the pairs again that people disagree on",
    ),
    Rule(
        "agreement_unknown",
        Effect.WARN,
        PEOPLE,
        agreement_is_unknown,
        says="no pair was judged by two annotators",
        reason="none of the {s.labels:,} pairs was judged by two annotators, so nobody knows how far people agree",
        source="our rule of thumb",
        remedy="let a second person label a tenth of them",
    ),
    Rule(
        "off_policy",
        Effect.WARN,
        OFFLINE,
        lambda method, s: is_off_policy(method, s) and is_subjective(method, s),
        says="the pairs are the dataset's own, and nothing can be checked",
        reason="the {s.labels:,} pairs were written by others than the model in training: off-policy data teach less",
        source="arXiv:2404.10719; arXiv:2406.09279",
        remedy="when it pays, label samples of the SFT model (labels.source=people or judge)",
    ),
)
"""Each is told wherever it applies; those of every method once."""
