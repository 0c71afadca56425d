"""What a reader of a report must know to read its numbers right, and what may be wrong with them."""

import json
from collections.abc import Mapping
from typing import Any

from flows.feedback import Feedback
from flows.outcomes import Outcomes
from flows.prompts import prompts_line
from flows.run import Run
from posttrain.evaluation.divergence import divergence
from posttrain.settings.config import Config
from tasks.base_model.identity import TINY
from tasks.workspace.artifacts import Artifact
from tasks.workspace.jsonl import read_rows

NEVER_MET = (
    ". The tiny base was pretrained on one document at a time, and has hardly met a question behind an answer: what prompting "
    "does to it says nothing of a larger model"
)
JUDGE_SUMMARY = "judge.json"
"""Of the stages `judge-<model>`: what is known of the judge."""


def notes(run: Run, outcomes: Outcomes) -> list[str]:
    """Return what a reader must know to read the numbers right."""
    prompts = [line] if (line := prompts_line(run)) else []
    return [
        *prompts,
        *run.limits,
        *notes_on_part(run),
        *notes_on_training(run, outcomes),
        *notes_on_quality(outcomes.results, outcomes.verdicts),
    ]


def warnings(run: Run, outcomes: Outcomes) -> list[str]:
    """Return what may be wrong with the numbers."""
    return [
        *warnings_of_data(run, outcomes.results),
        *run.cut_off,
        *warnings_of_quality(outcomes.results, outcomes.verdicts),
        *warnings_of_people(run.config, outcomes.feedback),
        *warnings_of_reward(run.config, outcomes.models),
    ]


def notes_on_part(run: Run) -> list[str]:
    """Return which of the held-out questions were asked, where not all of them were."""
    if not run.has_run("part"):
        return []
    part, found = run.config.evaluate.part, run.artifact("part").metrics
    others = {"development": "are kept for what is reported", "reported": "are for choosing settings, and none of these did"}
    return [
        f"models are measured on {found['questions']:,.0f} of the {found['held_out']:,.0f} held-out questions "
        f"(evaluate.part={part}); the others {others[part]}"
    ]


def notes_on_training(run: Run, outcomes: Outcomes) -> list[str]:
    """Return what was paid, who labelled, and what was rewarded."""
    config, feedback = run.config, outcomes.feedback
    lines = [
        *([config.profile.sentence] if config.profile.sentence else []),
        "costs are those of the stages after the base and before evaluation, as computed now or when they were cached; "
        "cost/flops counts every network (critic, reference, reward model, judge; not a judge's server): 6 a weight for each "
        "token learnt from, 2 for each token read",
    ]
    if feedback.labels:
        metrics = feedback.labels.metrics
        if feedback.source == "simulated":
            lines.append(
                f"preferences come from {config.labels.annotators} simulated annotators, who got {metrics['flipped_share']:.1%} "
                f"of {feedback.labels.costs['labels']:,.0f} labels wrong; no person was asked"
            )
        if feedback.source == "judge":
            lines.append(f"preferences are the opinion of a language model ({config.judge.model}); no person was asked")
        if feedback.source == "people":
            lines.append(_labels_of_people(feedback.labels))
    if run.has_run("judge"):
        lines.append(
            f"the judge is the base after {config.judge.practice_steps} steps on simulated reviews (judge.practice_steps); "
            f"their writers know the right answers, but say the opposite in {100 * config.judge.slip_share:g} % of the cases "
            "(judge.slip_share)"
            + (f" and all misread '{misread}' (judge.misread_verbs)" if (misread := config.judge.misread_verbs) else "")
            + ". How good the judge is was set: that it is better or worse than simulated annotators is no result"
        )
    if config.row.is_prompted:
        lines.append(_shots_shown(run))
    if config.row.is_sampled:
        lines.append(_samples_learnt_from(run))
    if outcomes.reward:
        lines.append(
            f"{config.row.trainer.upper()} was rewarded by {outcomes.reward.who} on training questions; "
            "nothing held out decided anything"
        )
        lines += _questions_asked(run)
    return lines


def _labels_of_people(labels: Artifact) -> str:
    """Return how many labels people gave, how far they agree, and what that took of their time."""
    found = labels.metrics
    count, annotators = labels.costs["labels"], found["annotators"]
    agreement = "agreement is not defined, since no pair was labelled by two of them"
    if "agreement" in found:
        agreement = f"two of them agree on {_share(found, 'agreement')} of the pairs that both labelled"
        agreement += f" (Krippendorff's α {found['alpha']:.2f})" if "alpha" in found else ""
    took = (
        f"they took {found['annotator_seconds']:,.0f} seconds"
        if "annotator_seconds" in found
        else "how long it took is not known"
    )
    gone = found.get("passed_over", 0)
    more = f"; {gone:,.0f} more are of questions that the dataset does not ask any more, and were passed over" if gone else ""
    by = f"{annotators:,.0f} annotator{'s' if annotators > 1 else ''}"
    return f"labels of people: {count:,.0f} by {by}; {agreement}; {took}{more}"


def _share(found: Mapping[str, float], name: str) -> str:
    return f"{found[name]:.1%} [{100 * found[f'{name}_low']:.1f}, {100 * found[f'{name}_high']:.1f}]"


def _shots_shown(run: Run) -> str:
    """Return how many demonstrations were shown, why no more, and which figure a prompted model does not have."""
    config, found = run.config, run.artifact(run.config.row.trainer).metrics
    shots, asked = int(found["shots"]), config.few_shot.shots
    fewer = ""
    if shots < asked:
        reason = "the dataset has no more" if shots == found["demonstrations"] else "no more fit into the context"
        fewer = f" (few_shot.shots asks for {asked:,}; {reason})"
    return (
        f"{config.row.title} is the {config.row.starts_from} with {shots:,} demonstrations{fewer}, {found['shot_tokens']:,.0f} "
        "tokens, before each question: nothing was trained. KL is not defined where two models read different prompts"
        + (NEVER_MET if config.model.base == TINY else "")
    )


def _samples_learnt_from(run: Run) -> str:
    """Return how many questions were sampled for, and what of the samples was learnt from."""
    config, found = run.config, run.artifact(run.config.row.trainer).metrics
    shown = f" and {found['demonstrations']:,.0f} demonstrations" if found["demonstrations"] else ""
    return (
        f"{config.row.title} drew {config.sample.per_prompt} samples of {config.row.starts_from.upper()} for each of "
        f"{found['questions']:,.0f} training questions (sample.question_share); {found['questions_solved']:,.0f} have a right "
        f"one. The base learnt from {found['samples']:,.0f} of the {found['right_samples']:,.0f} different right samples{shown}; "
        "nothing held out decided anything"
    )


def _questions_asked(run: Run) -> list[str]:
    """Return how many questions were asked for rewards, where some were kept from it."""
    trainer = run.config.row.trainer
    metrics = run.artifact(trainer).metrics
    if not metrics.get("questions_kept_for_labels"):
        return []
    return [
        f"{trainer.upper()} asked {metrics['questions']:,.0f} training questions; {metrics['questions_kept_for_labels']:,.0f} "
        "are kept for samples and labels, under every method alike (sample.question_share)"
    ]


def notes_on_quality(results: Mapping[str, Artifact], verdicts: Mapping[str, Artifact]) -> list[str]:
    """Return what a reader must know of each figure of quality that the report has, and of none that it has not."""
    found = {name for result in (*results.values(), *verdicts.values()) for name in result.metrics}
    lines = []
    if "win_rate" in found:
        lines.append("the gold judge of the win rate is a program that knows the answers: right before wrong, then finished")
    if "reference_loss" in found:
        lines.append(
            "held-out loss and perplexity are of the dataset's own completions of held-out questions, a token, EOS included; "
            "a lower loss says that a model writes more like them, not that its answers are better"
        )
    if "preference_accuracy" in found:
        lines.append(
            "held-out pairs are ranked by the model's implicit reward, β(log π − log π of the model it started from), ties half; "
            "it says what was learnt from preferences, not how good sampled answers are"
        )
    if "judge_win_rate" in found:
        summary = _summary(next(one for one in verdicts.values() if "judge_win_rate" in one.metrics))
        lines.append(
            f"the judge's win rate is the opinion of {summary['judge']} on greedy answers to {summary['compared']:,} held-out "
            "questions, each pair shown in both orders; a verdict that changes with the order is a tie, as equal answers are"
        )
    return lines


def warnings_of_quality(results: Mapping[str, Artifact], verdicts: Mapping[str, Artifact]) -> list[str]:
    """Return a warning where a judge's verdicts count for nothing, and where nothing at all says how good the answers are."""
    summaries = {name: _summary(verdict) for name, verdict in verdicts.items()}
    lines = [f"no win rate of {name} by the judge: {known['refused']}" for name, known in summaries.items() if known["refused"]]
    found = {name for result in (*results.values(), *verdicts.values()) for name in result.metrics}
    if not found & {"accuracy", "reference_loss", "preference_accuracy", "judge_win_rate"}:
        lines.append(
            "nothing says how good the answers are: the held-out questions have neither answers nor completions to compare with. "
            "Import some, or let a judge compare (evaluate.judge=true)"
        )
    return lines


def _summary(verdict: Artifact) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((verdict.path / JUDGE_SUMMARY).read_text(encoding="utf-8"))
    return summary


def warnings_of_data(run: Run, results: Mapping[str, Artifact]) -> list[str]:
    """Return a warning where rows were put aside, and where responses were cut off."""
    lines = []
    checked = run.data
    if checked.metrics["quarantined"]:
        rows = f"{checked.metrics['quarantined']:.0f} of {checked.metrics['rows']:.0f}"
        lines.append(f"{rows} rows were quarantined: {checked.path / 'validation.html'}")
    for name, result in results.items():
        if result.metrics["finished"] < 0.9:
            lines.append(f"{name} ended only {result.metrics['finished']:.0%} of its responses with EOS; the rest were cut off")
    return lines


def warnings_of_people(config: Config, feedback: Feedback) -> list[str]:
    """Return a warning where people's labels say nothing of a judge's."""
    if not feedback.second_opinion or not config.labels.file or "people_agreement" in feedback.second_opinion.metrics:
        return []
    return [f"{config.labels.file} has labels of fewer than two questions whose pairs the judge labelled: agreement is undefined"]


def warnings_of_reward(config: Config, models: Mapping[str, Artifact]) -> list[str]:
    """Return a warning where the reward and the gold score of the same responses came apart."""
    if not config.row.is_rewarded:
        return []
    curve = list(read_rows(models[config.method].path / "curves.jsonl"))
    if not curve or "ppo/gold" not in curve[0]:
        return []
    found = divergence(
        [row["ppo/reward"] for row in curve],
        [row["ppo/gold"] for row in curve],
        gold_error=[row["ppo/gold_error"] for row in curve] if "ppo/gold_error" in curve[0] else None,
        patience=config.ppo.patience,
    )
    return [found] if found else []
