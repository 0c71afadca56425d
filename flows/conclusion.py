"""The end of a pipeline: the final model registered, the report written, and what a reader of its numbers must know."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prefect import task

from flows.feedback import Feedback, proxy_name, source_of_labels
from flows.stages import Stages
from posttrain.errors import ContractError
from posttrain.evaluation.monitor import divergence
from posttrain.report.pipeline import Gain, build_report, gain_of, headline
from posttrain.report.unchecked import FIGURES
from posttrain.settings.config import Config, stages_of
from posttrain.statistics.intervals import INTERVALS_COVER
from tasks.data.dvc import DatasetVersion
from tasks.report.files import AUDIT_PICTURE, write_report
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import RegisteredModel, register
from tasks.workspace.artifacts import Artifact
from tasks.workspace.jsonl import PROBLEMS, read_rows

TRAINING = ("sft", "sample", "judge", "label", "reward_model", "dpo", "ppo")
COSTS = ("train_seconds", "generated_tokens", "trained_tokens", "critic_tokens", "forward_tokens", "flops", "labels")
"""Of a stage's costs, those that are added up over the stages in `TRAINING`."""
GAIN = (("", "estimate"), ("_low", "low"), ("_high", "high"))
SHOWN_SAMPLES = 50
JUDGE_SUMMARY = "judge.json"
"""Of the stages `judge-<model>`: what is known of the judge."""
UNCHECKED = frozenset(f"{figure.key}{bound}" for figure in FIGURES for bound in ("", "_low", "_high"))
"""Metrics of data that no program can check, which a pipeline reports where they are defined."""


@dataclass(frozen=True)
class Outcomes:
    """What a pipeline's stages gave.

    Attributes:
        models: by name, in the order in which they were made.
        results: evaluations, by model.
        feedback: what came between SFT and PPO or DPO.
        audit: of what PPO was rewarded by; None without PPO.
        verdicts: what a judge made of held-out answers, by model; empty where `evaluate.judge` does not ask for it.
    """

    models: Mapping[str, Artifact]
    results: Mapping[str, Artifact]
    feedback: Feedback
    audit: Artifact | None
    verdicts: Mapping[str, Artifact] = field(default_factory=dict)


def conclude(
    stages: Stages,
    config: Config,
    data: DatasetVersion,
    outcomes: Outcomes,
    *,
    compared_with: str,
    pipeline_id: str,
    git_commit: str,
) -> dict[str, Any]:
    """Register the final model, write the report, and close the pipeline's run."""
    models, results, feedback = outcomes.models, outcomes.results, outcomes.feedback
    final = list(models)[-1]
    ledger, parent = stages.ledger, stages.parent
    if final != compared_with:
        check_answers(results[final], results[compared_with], name=final, start=compared_with)
    verdicts = outcomes.verdicts
    figures = {name: model_figures(result, verdicts.get(name)) for name, result in results.items()}
    gain = gain_of(figures, compared_with=compared_with)
    metrics = pipeline_metrics(stages, results[final], gain, verdicts.get(final))
    tags = {
        "posttrain.method": config.method,
        "posttrain.seed": str(config.seed),
        "posttrain.data_md5": data.md5,
        "posttrain.pipeline_id": pipeline_id,
    }
    if feedback.reward_model:
        registered_model(
            ledger,
            say=stages.say,
            name=f"posttrain-{data.name}-reward",
            folder=feedback.reward_model.path / "model",
            run_id=parent,
            tags={**tags, "posttrain.stage_key": feedback.reward_model.key},
            metrics={f"reward_model/{name}": value for name, value in feedback.reward_model.metrics.items()},
        )
    registered = registered_model(
        ledger,
        say=stages.say,
        name=f"posttrain-{data.name}",
        folder=models[final].path / "model",
        run_id=parent,
        tags={**tags, "posttrain.stage_key": models[final].key},
        metrics=metrics,
    )
    report = build_report(
        pipeline_id=pipeline_id,
        method=config.method,
        seed=config.seed,
        dataset=data.name,
        data_md5=data.md5,
        git_commit=git_commit,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        stages=[stage.as_row() for stage in stages.done],
        metrics=metrics,
        models=figures,
        compared_with=compared_with,
        model={"uri": registered.uri, "name": registered.name, "version": registered.version, "path": registered.path},
        mlflow={
            "run_id": parent,
            "experiment_id": ledger.experiment_id,
            "compare_url": ledger.compare_url([parent, *ledger.peers(parent)]),
        },
        notes=[*notes(stages, config, feedback), *notes_on_quality(results, verdicts)],
        warnings=[
            *warnings(stages, results),
            *warnings_of_quality(results, verdicts),
            *unheard(config, feedback),
            *hacking(config, models),
        ],
        audit=audit_of(outcomes),
    )
    picture = outcomes.audit and outcomes.audit.path / AUDIT_PICTURE
    files = write_report(report, stages.places.reports, curves=training_curves(outcomes), audit_picture=picture)
    for file in files.values():
        if file.name != "latest.json":
            ledger.log_file(parent, file, folder="report")
    ledger.log_table(parent, sample_rows(results), "samples.json")
    ledger.finish_pipeline(
        parent,
        metrics=metrics,
        tags={
            "posttrain.stage_key": models[final].key,
            "posttrain.cached": str(all(stage.cached for stage in stages.done)).lower(),
        },
        verdict=f"**{headline(report)}**\n\n{INTERVALS_COVER}.",
    )
    return report


def check_answers(result: Artifact, before: Artifact, *, name: str, start: str) -> None:
    """Refuse a model that answers every held-out question, greedily and sampled, to the letter as the one it started from.

    Raises:
        ContractError: it does, so whatever training moved shows nowhere.
    """

    def texts(artifact: Artifact) -> list[list[str]]:
        return [[one["text"] for one in (row["greedy"], *row["sampled"])] for row in read_rows(artifact.path / PROBLEMS)]

    ours, theirs = texts(result), texts(before)
    if ours == theirs:
        raise ContractError(
            f"{name} gives the same answers as {start}: all {sum(map(len, ours)):,} responses to the {len(ours):,} held-out "
            "questions are equal to the letter, so it has learnt nothing that shows, and is not registered. Train longer or with "
            "a larger learning rate (docs/settings.md), or give it data that tell something"
        )


@task(name="register", persist_result=False)
def registered_model(ledger: Ledger, **how: Any) -> RegisteredModel:
    """Register the final model as challenger."""
    return register(ledger, **how)


def pipeline_metrics(
    stages: Stages, final: Artifact, gain: Gain | None, verdict: Artifact | None = None
) -> dict[str, float | None]:
    """Return the figures that every method reports; costs are what computing took, now or when it was cached."""

    def total(cost: str) -> float:
        return sum(stage.artifact.costs.get(cost, 0.0) for stage in stages.done if stage.name in TRAINING)

    names = (
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "accuracy_sampled",
        "accuracy_sampled_low",
        "accuracy_sampled_high",
        "win_rate",
        "win_rate_low",
        "win_rate_high",
        "kl",
        "response_tokens",
        "finished",
    )
    return {
        **{f"eval/{name}": final.metrics.get(name) for name in names},
        **{f"eval/{name}": value for name, value in {**final.metrics, **_metrics(verdict)}.items() if name in UNCHECKED},
        **{f"eval/accuracy_gain{end}": gain and getattr(gain, name) for end, name in GAIN},
        **{f"cost/{name}": total(name) for name in COSTS},
        "cost/peak_rss_mb": max(stage.artifact.costs["peak_rss_mb"] for stage in stages.done),
    }


def model_figures(result: Artifact, verdict: Artifact | None = None) -> dict[str, Any]:
    """Return one model's figures as the report's table wants them; None, or left out, where a figure is undefined."""
    found = {**result.metrics, **_metrics(verdict)}

    def interval(name: str) -> dict[str, float] | None:
        if name not in found:
            return None
        return {"estimate": found[name], "low": found[f"{name}_low"], "high": found[f"{name}_high"]}

    bounded = ("accuracy", "accuracy_sampled", "win_rate", "accuracy_gain", "accuracy_sampled_gain", "kl")
    bounded += tuple(figure.key for figure in FIGURES)
    return {
        **{name: interval(name) for name in bounded if name in found or name in bounded[:3]},
        "response_tokens": found["response_tokens"],
        "finished": found["finished"],
    }


def _metrics(verdict: Artifact | None) -> Mapping[str, float]:
    return verdict.metrics if verdict else {}


def audit_of(outcomes: Outcomes) -> dict[str, Any] | None:
    """Return what the report tells of labels, reward model and proxy; None for a method that has none of them."""
    feedback = outcomes.feedback
    told: dict[str, Any] = {}
    if feedback.labels:
        told["source"] = source_of_labels(feedback.labels)
        told["labels"] = {**feedback.labels.metrics, **feedback.labels.costs}
    for part in ("second_opinion", "self_preference", "reward_model"):
        if found := getattr(feedback, part):
            told[part] = dict(found.metrics)
    if outcomes.audit:
        told["proxy"] = dict(outcomes.audit.metrics)
    return told or None


def notes(stages: Stages, config: Config, feedback: Feedback) -> list[str]:
    """Return what a reader must know to read the numbers right."""
    told = [
        "costs are those of the stages after the base and before evaluation, as computed now or when they were cached; "
        "cost/flops counts every network (critic, reference, reward model, judge; not a judge's server): 6 a weight for each "
        "token learnt from, 2 for each token read"
    ]
    if feedback.labels:
        figures, source = feedback.labels.metrics, source_of_labels(feedback.labels)
        if source == "simulated":
            told.append(
                f"preferences come from {config.labels.annotators} simulated annotators, who got {figures['flipped_share']:.1%} "
                f"of {feedback.labels.costs['labels']:,.0f} labels wrong; no person was asked"
            )
        if source == "judge":
            told.append(f"preferences are the opinion of a language model ({config.judge.model}); no person was asked")
    if any(stage.name == "judge" for stage in stages.done):
        told.append(
            f"the judge is the base after {config.judge.practice_steps} steps on simulated reviews (judge.practice_steps); "
            f"their writers know the right answers, but say the opposite in {100 * config.judge.slip_share:g} % of the cases "
            "(judge.slip_share)"
            + (f" and all misread '{misread}' (judge.misread_verbs)" if (misread := config.judge.misread_verbs) else "")
            + ". How good the judge is was set: that it is better or worse than simulated annotators is no result"
        )
    if "ppo" in stages_of(config):
        told.append(
            f"PPO was rewarded by {proxy_name(config, feedback)} on training questions; nothing held out decided anything"
        )
        told += _questions_of_ppo(stages)
    return told


def _questions_of_ppo(stages: Stages) -> list[str]:
    """Return how many questions PPO asked, where some were kept from it."""
    figures = next((stage.artifact.metrics for stage in stages.done if stage.name == "ppo"), {})
    if not figures.get("questions_kept_for_labels"):
        return []
    return [
        f"PPO asked {figures['questions']:,.0f} training questions; {figures['questions_kept_for_labels']:,.0f} are kept for "
        "samples and labels, under every method alike (sample.question_share)"
    ]


def notes_on_quality(results: Mapping[str, Artifact], verdicts: Mapping[str, Artifact]) -> list[str]:
    """Return what a reader must know of each figure of quality that the report has, and of none that it has not."""
    found = {name for result in (*results.values(), *verdicts.values()) for name in result.metrics}
    told = []
    if "win_rate" in found:
        told.append("the gold judge of the win rate is a program that knows the answers: right before wrong, then finished")
    if "reference_loss" in found:
        told.append(
            "held-out loss and perplexity are of the dataset's own completions of held-out questions, a token, EOS included; "
            "a lower loss says that a model writes more like them, not that its answers are better"
        )
    if "preference_accuracy" in found:
        told.append(
            "held-out pairs are ranked by the model's implicit reward, β(log π − log π of the model it started from), ties half; "
            "it says what was learnt from preferences, not how good sampled answers are"
        )
    if "judge_win_rate" in found:
        summary = _summary(next(one for one in verdicts.values() if "judge_win_rate" in one.metrics))
        told.append(
            f"the judge's win rate is the opinion of {summary['judge']} on greedy answers to {summary['compared']:,} held-out "
            "questions, each pair shown in both orders; a verdict that changes with the order is a tie, as equal answers are"
        )
    return told


def warnings_of_quality(results: Mapping[str, Artifact], verdicts: Mapping[str, Artifact]) -> list[str]:
    """Return a warning where a judge's verdicts count for nothing, and where nothing at all says how good the answers are."""
    summaries = {name: _summary(verdict) for name, verdict in verdicts.items()}
    told = [f"no win rate of {name} by the judge: {known['refused']}" for name, known in summaries.items() if known["refused"]]
    found = {name for result in (*results.values(), *verdicts.values()) for name in result.metrics}
    if not found & {"accuracy", "reference_loss", "preference_accuracy", "judge_win_rate"}:
        told.append(
            "nothing says how good the answers are: the held-out questions have neither answers nor completions to compare with. "
            "Import some, or let a judge compare (evaluate.judge=true)"
        )
    return told


def _summary(verdict: Artifact) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((verdict.path / JUDGE_SUMMARY).read_text(encoding="utf-8"))
    return told


def warnings(stages: Stages, results: Mapping[str, Artifact]) -> list[str]:
    """Return what may be wrong with the numbers."""
    told = []
    checked = next(stage.artifact for stage in stages.done if stage.name == "validate")
    if checked.metrics["quarantined"]:
        rows = f"{checked.metrics['quarantined']:.0f} of {checked.metrics['rows']:.0f}"
        told.append(f"{rows} rows were quarantined: {checked.path / 'validation.html'}")
    for name, result in results.items():
        if result.metrics["finished"] < 0.9:
            told.append(f"{name} ended only {result.metrics['finished']:.0%} of its responses with EOS; the rest were cut off")
    return told


def unheard(config: Config, feedback: Feedback) -> list[str]:
    """Return a warning where people's labels say nothing of a judge's."""
    if not feedback.second_opinion or not config.labels.file or "people_agreement" in feedback.second_opinion.metrics:
        return []
    return [f"{config.labels.file} has labels of fewer than two questions whose pairs the judge labelled: agreement is undefined"]


def hacking(config: Config, models: Mapping[str, Artifact]) -> list[str]:
    """Return a warning where PPO's reward and the gold score of the same responses came apart."""
    if "ppo" not in stages_of(config):
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


def training_curves(outcomes: Outcomes) -> dict[str, list[dict[str, float]]]:
    """Return each trained model's curve, for the picture."""
    rewards = {"reward model": outcomes.feedback.reward_model} if outcomes.feedback.reward_model else {}
    files = {name: artifact.path / "curves.jsonl" for name, artifact in {**rewards, **outcomes.models}.items()}
    return {name: list(read_rows(file)) for name, file in files.items() if file.is_file()}


def sample_rows(results: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Return the first held-out questions with every model's greedy answer side by side."""
    tables = {name: list(read_rows(result.path / PROBLEMS))[:SHOWN_SAMPLES] for name, result in results.items()}
    rows = []
    for problems in zip(*tables.values(), strict=True):
        row = {"prompt": _as_text(problems[0]["prompt"]), "answers": ", ".join(problems[0]["answers"])}
        for name, problem in zip(tables, problems, strict=True):
            row[name] = problem["greedy"]["text"]
            row[f"{name} is right"] = problem["greedy"].get("is_right")
        rows.append(row)
    return rows


def _as_text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)
