"""The rules that make a method impossible: what a pipeline refuses, told before one is started."""

from posttrain.advice.memory import memory_of
from posttrain.advice.rule import ASKING, EVERY, LABELLED, NAMED, PEOPLE, SAMPLED, SHOWN, Effect, Rule
from posttrain.advice.situation import Situation
from posttrain.methods import Method

WORKS_HERE = "posttrain's own check"
"""Source of a rule that says what a pipeline refuses."""


def is_refused(method: Method, s: Situation) -> bool:
    """The settings are refused before the data are looked at."""
    return method.name in s.refused


def measures_too_little(method: Method, s: Situation) -> bool:
    """Fewer than two held-out questions are asked: one has no interval."""
    return s.measured < 2


def lacks_demonstrations(method: Method, s: Situation) -> bool:
    """There is nothing to imitate or to show."""
    return not s.demonstrations


def lacks_questions(method: Method, s: Situation) -> bool:
    """There is no training question."""
    return not s.questions


def is_sampled_for_nothing(method: Method, s: Situation) -> bool:
    """Responses would be sampled for labels, and there is no question to sample them for."""
    return s.labels_by(method) not in ("", "dataset") and not s.questions


def lacks_answers(method: Method, s: Situation) -> bool:
    """No training question has an answer."""
    return not s.answered


def lacks_graded_answers(method: Method, s: Situation) -> bool:
    """The reward is a grader, and no training question has an answer for it."""
    return s.asked.is_graded and not s.answered


def lacks_feedback(method: Method, s: Situation) -> bool:
    """Labels are to come from the dataset, which has none."""
    return s.labels_by(method) == "dataset" and not s.feedback


def makes_no_pair(method: Method, s: Situation) -> bool:
    """The dataset's feedback makes no pair: nobody rated two completions of one prompt."""
    return s.labels_by(method) == "dataset" and s.feedback > 0 and not s.labels


def nobody_can_label(method: Method, s: Situation) -> bool:
    """Labels would be simulated, which takes answers, and there are none."""
    return s.labels_by(method) == "simulated" and s.questions > 0 and not s.answered


def some_cannot_be_labelled(method: Method, s: Situation) -> bool:
    """Labels would be simulated, and some questions have no answer: the stage ends at the first of them."""
    return s.labels_by(method) == "simulated" and 0 < s.answered < s.questions


def exceeds_memory(method: Method, s: Situation) -> bool:
    """Weights, gradients and optimiser alone are more than there is."""
    return memory_of(method, s).least > s.machine.memory


IMPOSSIBLE: tuple[Rule, ...] = (
    Rule(
        "refused_settings",
        Effect.IMPOSSIBLE,
        EVERY,
        is_refused,
        says="the settings are refused: base, reward, judge, labels, lengths",
        reason="{refused}",
        source=WORKS_HERE,
        seen_by="check",
    ),
    Rule(
        "held_out",
        Effect.IMPOSSIBLE,
        EVERY,
        measures_too_little,
        says="fewer than two held-out questions are asked",
        reason="{s.measured} held-out questions are asked, and two at least have an interval",
        source=WORKS_HERE,
        remedy="import more records, or raise split.held_out in params.yaml or evaluate.max_questions",
        seen_by="check",
    ),
    Rule(
        "no_demonstrations",
        Effect.IMPOSSIBLE,
        SHOWN,
        lacks_demonstrations,
        says="there are no demonstrations",
        reason="there are no demonstrations to imitate or to show",
        source=WORKS_HERE,
        remedy="write some 50 to 100 good responses to training questions and import them with the rest (FORMAT=records)",
        seen_by="check",
    ),
    Rule(
        "no_questions",
        Effect.IMPOSSIBLE,
        ASKING,
        lacks_questions,
        says="there are no training questions",
        reason="there are no training questions to ask",
        source=WORKS_HERE,
        remedy="import prompts",
        seen_by="check",
    ),
    Rule(
        "nothing_to_sample_for",
        Effect.IMPOSSIBLE,
        LABELLED,
        is_sampled_for_nothing,
        says="samples would be labelled, and there are no training questions",
        reason="there are no training questions to sample responses for",
        source=WORKS_HERE,
        remedy="import prompts, or preferences",
        seen_by="check",
    ),
    Rule(
        "no_right_samples",
        Effect.IMPOSSIBLE,
        SAMPLED,
        lacks_answers,
        says="no training question has an answer",
        reason="none of the {s.questions:,} training questions has an answer, so nobody can tell which samples are right",
        source=WORKS_HERE,
        remedy="import questions with answers",
        seen_by="check",
    ),
    Rule(
        "no_answers_to_grade",
        Effect.IMPOSSIBLE,
        NAMED,
        lacks_graded_answers,
        says="`ppo.reward` is a grader, and no training question has an answer",
        reason="ppo.reward={s.asked.reward} checks answers, and none of the {s.questions:,} training questions has one",
        source="ReFT, arXiv:2401.08967",
        remedy="import questions with answers, or, where the method takes any reward, name one: "
        "ppo.reward=model:<directory> or python:<module>:<function>",
        seen_by="stage",
    ),
    Rule(
        "no_feedback",
        Effect.IMPOSSIBLE,
        LABELLED,
        lacks_feedback,
        says="labels are to come from the dataset, which has no feedback",
        reason="labels.source=dataset, and the dataset has no preferences, ratings or rankings",
        source=WORKS_HERE,
        remedy="import preferences",
        seen_by="check",
    ),
    Rule(
        "no_pair",
        Effect.IMPOSSIBLE,
        LABELLED,
        makes_no_pair,
        says="the dataset's feedback makes no pair",
        reason="the {s.ratings:,} ratings make no pair: no annotator rated two different completions of one prompt",
        source=WORKS_HERE,
        remedy="import preferences or rankings, or ratings of several completions a prompt",
        seen_by="stage",
    ),
    Rule(
        "nobody_labels",
        Effect.IMPOSSIBLE,
        PEOPLE,
        nobody_can_label,
        says="there are neither preferences nor answers, so nobody can tell which sample is better",
        reason="there are neither preferences, ratings or rankings nor answers, so nobody can tell which sample is better",
        source=WORKS_HERE,
        remedy="import preferences, let people label samples (labels.source=people labels.file=…), or name a judge "
        "(labels.source=judge)",
        seen_by="check",
    ),
    Rule(
        "some_unlabelled",
        Effect.IMPOSSIBLE,
        PEOPLE,
        some_cannot_be_labelled,
        says="labels would be simulated, and some questions have no answer",
        reason="labels would be simulated from right answers, which {s.answered:,} of {s.questions:,} training questions have",
        source=WORKS_HERE,
        remedy="import preferences, or leave out the questions without answers",
        seen_by="stage",
    ),
    Rule(
        "memory",
        Effect.IMPOSSIBLE,
        EVERY,
        exceeds_memory,
        says="weights, gradients, optimiser and the networks beside them exceed the memory",
        reason="its networks with gradients and optimiser take {least} GB at least, and there are {memory} GB",
        source="16 bytes a trained weight, arXiv:1910.02054",
        remedy="train adapters (model.lora_rank=16), take a smaller base, or a machine with more memory",
        seen_by="machine",
    ),
)
"""Checked in this order; the first that applies is told."""


def impossible(method: Method, situation: Situation) -> str:
    """Return in one sentence why a method cannot run in a situation, and what would make it possible; "" where it can."""
    for rule in IMPOSSIBLE:
        if rule.applies(method, situation):
            remedy = rule.mend(method, situation)
            told = f"{method.title} cannot run on {situation.dataset}: {rule.because(method, situation)}"
            return f"{told}; {remedy}" if remedy else told
    return ""
