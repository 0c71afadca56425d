"""The rules that say in which order to try what is possible: the practitioners' guide, with the figures of the data at hand."""

from dataclasses import replace

from posttrain.advice.memory import memory_of
from posttrain.advice.rule import (
    ANY_REWARD,
    DIRECTLY_JUDGED,
    FROM_BASE,
    GRADED,
    GROUPED,
    IMITATING,
    JUDGED,
    PEOPLE,
    PEOPLE_SCORED,
    PROMPTED,
    REWARDED,
    SAMPLED,
    SCORED,
    SINGLE,
    Effect,
    Rule,
)
from posttrain.advice.situation import Situation
from posttrain.methods import Method

FEW_DEMONSTRATIONS = 50
"""Below it SFT mostly learns the form of an answer: our rule of thumb."""
PLENTY_DEMONSTRATIONS = 1_000
"""As many curated demonstrations aligned a large base by SFT alone (LIMA, arXiv:2305.11206)."""
MANY_PAIRS = 1_000
"""Pairs from which preferences carry a method by themselves; our rule of thumb (AlpacaFarm, arXiv:2305.14387, has 10,000)."""
SHORT_RESPONSE = 64
"""Tokens of 95 % of the responses below which a task counts as narrow: a label, a field, a short answer."""
TEMPLATED = 0.3
"""Share of prompts that nearly equal an earlier one from which a task counts as narrow: one template."""
GUIDE = "the practitioners' guide"


def always(method: Method, s: Situation) -> bool:
    """Whatever the situation."""
    return True


def is_checkable(method: Method, s: Situation) -> bool:
    """At least half of the training questions have an answer to check against, and at most half of those are prose."""
    return 0 < s.questions <= 2 * s.answered and 2 * s.long_answers <= s.answered


def is_graded_and_checkable(method: Method, s: Situation) -> bool:
    """`ppo.reward` is a grader, and the answers can be checked."""
    return s.asked.is_graded and is_checkable(method, s)


def has_other_reward(method: Method, s: Situation) -> bool:
    """`ppo.reward` names a reward that is no grader."""
    return not s.asked.is_graded


def has_many_labels(method: Method, s: Situation) -> bool:
    """People's labels, of the dataset or of a store, are many."""
    return s.labels_by(method) in ("dataset", "people") and s.labels >= MANY_PAIRS


def has_few_labels(method: Method, s: Situation) -> bool:
    """People gave labels, and they are few."""
    return s.labels_by(method) in ("dataset", "people") and 0 < s.labels < MANY_PAIRS


def is_subjective(method: Method, s: Situation) -> bool:
    """People gave labels, and no program can tell what is right."""
    return s.labels_by(method) in ("dataset", "people") and s.labels > 0 and not is_checkable(method, s)


def is_simulated(method: Method, s: Situation) -> bool:
    """Annotators would be simulated."""
    return s.labels_by(method) == "simulated"


def labels_are_dear(method: Method, s: Situation) -> bool:
    """Nothing can be checked, nobody gave labels, and a judge is named."""
    return s.asked.names_judge and not s.labels and not is_checkable(method, s)


def judge_joins_people(method: Method, s: Situation) -> bool:
    """A judge is named beside people's labels, and nothing can be checked."""
    return s.asked.names_judge and s.labels > 0 and not is_checkable(method, s)


def judges_itself(method: Method, s: Situation) -> bool:
    """No judge is named, so that the base would judge its own responses."""
    return not s.asked.names_judge and not s.asked.is_practised


def has_practised_judge(method: Method, s: Situation) -> bool:
    """The judge is the tiny base, which practised on simulated reviews."""
    return not s.asked.names_judge and s.asked.is_practised


def has_few_demonstrations(method: Method, s: Situation) -> bool:
    """There are demonstrations, but few."""
    return 0 < s.demonstrations < FEW_DEMONSTRATIONS


def has_demonstrations(method: Method, s: Situation) -> bool:
    """There are demonstrations."""
    return s.demonstrations > 0


def has_plenty(method: Method, s: Situation) -> bool:
    """Demonstrations are plenty."""
    return s.demonstrations >= PLENTY_DEMONSTRATIONS


def is_narrow(method: Method, s: Situation) -> bool:
    """Demonstrations are plenty, and responses are short or prompts follow one template."""
    return has_plenty(method, s) and (0 < s.long_response_tokens <= SHORT_RESPONSE or s.near_duplicates >= TEMPLATED)


def critic_does_not_fit(method: Method, s: Situation) -> bool:
    """With a critic a device batch would likely exceed the memory, without one it would not."""
    with_critic = replace(method, loop="")
    return memory_of(with_critic, s).likely > s.machine.memory >= memory_of(method, s).likely


ORDER: tuple[Rule, ...] = (
    Rule(
        "prompting_first",
        Effect.FIRST,
        PROMPTED,
        always,
        says="always",
        reason="it trains nothing, so it tells for next to nothing what training has to beat",
        source=f"{GUIDE}; arXiv:2005.14165",
    ),
    Rule(
        "sft_is_the_start",
        Effect.FIRST,
        IMITATING,
        has_demonstrations,
        says="there are demonstrations",
        reason="most methods start from it, so it is made and measured in any case ({s.demonstrations:,} demonstrations)",
        source="arXiv:2203.02155",
    ),
    Rule(
        "checkable_reinforced",
        Effect.BEFORE,
        GRADED,
        is_graded_and_checkable,
        says="answers can be checked",
        reason="{s.answered:,} of {s.questions:,} training questions have an answer that a program can check, so its reward is "
        "exact and costs no label",
        source=f"{GUIDE}; arXiv:2401.08967 (GSM8K, 7 B: SFT 44.0, ReFT 53.5)",
        weight=50,
    ),
    Rule(
        "checkable_filtered",
        Effect.BEFORE,
        SAMPLED,
        is_checkable,
        says="answers can be checked",
        reason="{s.answered:,} answers tell which of its own samples are right, and imitating those is cheaper than "
        "reinforcement: without this row a table hides how much of a gain is filtering",
        source="arXiv:2308.01825; offline self-training in arXiv:2401.08967",
        weight=40,
    ),
    Rule(
        "checkable_in_groups",
        Effect.BEFORE,
        GROUPED,
        lambda method, s: ANY_REWARD.holds(method) and is_graded_and_checkable(method, s),
        says="answers can be checked",
        reason="{s.answered:,} answers can be checked, and the other responses to a question stand in for a critic: less memory",
        source="arXiv:2402.03300; arXiv:2402.14740",
        weight=35,
    ),
    Rule(
        "checkable_from_base",
        Effect.BEFORE,
        FROM_BASE,
        is_graded_and_checkable,
        says="answers can be checked",
        reason="{s.answered:,} answers can be checked, and it needs no demonstrations",
        source=GUIDE,
        weight=30,
    ),
    Rule(
        "reward_is_named",
        Effect.BEFORE,
        ANY_REWARD,
        has_other_reward,
        says="`ppo.reward` names a reward that is no grader",
        reason="a reward is named (ppo.reward={s.asked.reward}), which it can explore",
        source=GUIDE,
        weight=45,
    ),
    Rule(
        "critic_does_not_fit",
        Effect.BEFORE,
        GROUPED,
        critic_does_not_fit,
        says="with a critic a device batch would likely exceed the memory, without one not",
        reason="a critic would not fit beside it: {likely} GB without one, {memory} GB are there",
        source="arXiv:2402.03300",
        weight=20,
    ),
    Rule(
        "from_base_is_hungry",
        Effect.AFTER,
        FROM_BASE,
        has_demonstrations,
        says="there are demonstrations, which it leaves out",
        reason="it leaves {s.demonstrations:,} demonstrations unused: it has to find the form of an answer by chance, which "
        "takes many samples",
        source=GUIDE,
        weight=-40,
    ),
    Rule(
        "many_preferences",
        Effect.BEFORE,
        PEOPLE,
        has_many_labels,
        says=f"people's labels are many ({MANY_PAIRS:,} pairs or more)",
        reason="{s.labels:,} labelled pairs are there",
        source=f"{GUIDE}; arXiv:2305.18290",
        weight=30,
    ),
    Rule(
        "subjective",
        Effect.BEFORE,
        PEOPLE,
        is_subjective,
        says="people gave labels, and no program can tell what is right",
        reason="only {s.answered:,} of {s.questions:,} training questions have an answer to check, and {s.labels:,} pairs say "
        "what people prefer",
        source=f"{GUIDE}; arXiv:2203.02155",
        weight=20,
    ),
    Rule(
        "few_preferences",
        Effect.AFTER,
        PEOPLE_SCORED,
        has_few_labels,
        says=f"people's labels are few (fewer than {MANY_PAIRS:,} pairs)",
        reason="{s.labels:,} pairs are few for a reward model, and the policy leaves what it knows",
        source="arXiv:2210.10760",
        weight=-15,
    ),
    Rule(
        "three_stages",
        Effect.AFTER,
        SCORED,
        always,
        says="always",
        reason="it has the most stages, each can fail, and the policy may exploit the reward model",
        source=f"{GUIDE}; arXiv:2210.10760",
        weight=-5,
    ),
    Rule(
        "pairs_are_whole",
        Effect.AFTER,
        SINGLE,
        always,
        says="always: labels come as pairs here",
        reason="labels are pairs here, of which it reads each response by itself; it is made for thumbs without a partner",
        source="arXiv:2402.01306",
        weight=-5,
    ),
    Rule(
        "simulated_labels",
        Effect.AFTER,
        PEOPLE,
        is_simulated,
        says="annotators would be simulated",
        reason="nobody gave labels, so annotators who know the right answers would be simulated: that compares algorithms, and "
        "says nothing of people",
        source="arXiv:2305.14387",
        weight=-15,
    ),
    Rule(
        "dear_labels",
        Effect.BEFORE,
        JUDGED,
        labels_are_dear,
        says="nothing can be checked, nobody gave labels, a judge is named",
        reason="no answer can be checked, nobody gave labels, and the judge {s.asked.judge} is named",
        source=f"{GUIDE}; arXiv:2309.00267 (wins against SFT: RLAIF 71 %, RLHF 73 %)",
        weight=40,
    ),
    Rule(
        "judge_beside_people",
        Effect.BEFORE,
        JUDGED,
        judge_joins_people,
        says="a judge is named beside people's labels",
        reason="the judge {s.asked.judge} is named; people's {s.labels:,} labels come first, and tell what it is worth",
        source="arXiv:2309.00267",
        weight=10,
    ),
    Rule(
        "exact_beats_judged",
        Effect.AFTER,
        JUDGED,
        is_checkable,
        says="answers can be checked",
        reason="a program checks {s.answered:,} answers exactly and for nothing; a judge is neither exact nor free",
        source=GUIDE,
        weight=-10,
    ),
    Rule(
        "judges_itself",
        Effect.AFTER,
        JUDGED,
        judges_itself,
        says="no judge is named, so the base judges itself",
        reason="no judge is named (judge.backend, judge.model), so the base would judge its own responses; a small "
        "one may do so no better than chance",
        source="docs/judges.md",
        weight=-30,
        remedy='name one: SET="judge.backend=openai judge.model=… judge.base_url=…", or judge.model=<directory>',
    ),
    Rule(
        "practised_judge",
        Effect.AFTER,
        JUDGED,
        has_practised_judge,
        says="the judge is the tiny base after practice on simulated reviews",
        reason="the judge is the tiny base, which practised on simulated reviews: how it does here says nothing of a real judge",
        source="docs/judges.md",
        weight=-15,
    ),
    Rule(
        "judge_asked_each_time",
        Effect.AFTER,
        DIRECTLY_JUDGED,
        always,
        says="always",
        reason="the judge is asked about each response of each update, in the place of a few labels",
        source="arXiv:2309.00267",
        weight=-10,
    ),
    Rule(
        "few_demonstrations_sft",
        Effect.AFTER,
        IMITATING,
        has_few_demonstrations,
        says=f"demonstrations are few (fewer than {FEW_DEMONSTRATIONS})",
        reason="{s.demonstrations:,} demonstrations are few: it overfits them and generalises poorly",
        source=GUIDE,
        weight=-20,
    ),
    Rule(
        "few_demonstrations_rl",
        Effect.BEFORE,
        REWARDED,
        has_few_demonstrations,
        says=f"demonstrations are few (fewer than {FEW_DEMONSTRATIONS})",
        reason="{s.demonstrations:,} demonstrations are few, and it learns from its own responses instead",
        source=GUIDE,
        weight=10,
    ),
    Rule(
        "plenty_of_demonstrations",
        Effect.BEFORE,
        IMITATING,
        has_plenty,
        says=f"demonstrations are plenty ({PLENTY_DEMONSTRATIONS:,} or more)",
        reason="{s.demonstrations:,} demonstrations are plenty",
        source=f"{GUIDE}; arXiv:2305.11206",
        weight=25,
    ),
    Rule(
        "narrow_task",
        Effect.BEFORE,
        IMITATING,
        is_narrow,
        says=f"and the task is narrow: 95 % of the responses have at most {SHORT_RESPONSE} tokens, or {100 * TEMPLATED:.0f} % of "
        "the prompts nearly equal another",
        reason="the task is narrow: 95 % of the responses have at most {s.long_response_tokens:,} tokens, and "
        "{s.near_duplicates:.0%} of the prompts nearly equal another",
        source=GUIDE,
        weight=20,
    ),
)
"""Weights of all rules that apply are added up; the method with the largest sum is tried first."""
