"""The stage `score`: what one reward model says of the held-out samples of every method of a seed, for best of k."""

from pathlib import Path

from models.load import load_tokenizer, prompt_text
from posttrain.records import Question
from posttrain.rl.rewards import rewarded
from tasks.rewards.sources.model import ModelReward
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import PROBLEMS, read_rows, write_rows
from tasks.workspace.quiet import quiet_libraries

SCORES = "scores.jsonl"


def score(out: Path, log: Log, *, tokenizer: Path, reward: Path, **evaluations: Path) -> Outcome:
    """Write `scores.jsonl`: a row a model and held-out question, {model, id, scores}, scores in the order of the samples.

    Args:
        out: where to write.
        log: unused; scoring has no curve.
        tokenizer: folder of the tokenizer.
        reward: artifact of the reward model.
        evaluations: artifacts of the evaluations, by the model that was evaluated.
    """
    reader = load_tokenizer(tokenizer)
    tables = {name: list(read_rows(folder / PROBLEMS)) for name, folder in evaluations.items()}
    questions = {
        row["id"]: Question(id=row["id"], prompt=row["prompt"], answers=row["answers"])
        for rows in tables.values()
        for row in rows
    }
    # models often give the same response: each different one is scored once
    asked = list(dict.fromkeys((row["id"], one["text"]) for rows in tables.values() for row in rows for one in row["sampled"]))
    folder = reward / "model"
    with quiet_libraries():
        source = ModelReward(name=f"model:{folder}", path=folder, weights="").load()
        prompts = [prompt_text(reader, questions[place].prompt) for place, _ in asked]
        records = [questions[place].model_dump(mode="json") for place, _ in asked]
        values = rewarded(source, "model", prompts, [text for _, text in asked], records).values
    scores = dict(zip(asked, values, strict=True))
    write_rows(
        out / SCORES,
        (
            {"model": name, "id": row["id"], "scores": [scores[row["id"], one["text"]] for one in row["sampled"]]}
            for name, rows in tables.items()
            for row in rows
        ),
    )
    return Outcome(metrics={"questions": len(questions), "responses": len(asked)})
