"""The stages `evaluate-champion` and `evaluate-fresh`: a registered version on today's held-out questions, or on fresh ones."""

from pathlib import Path
from tempfile import TemporaryDirectory

from posttrain.settings.evaluation import EvaluateSettings
from posttrain.settings.model import ModelSettings
from tasks.evaluation.evaluate import evaluate
from tasks.workspace.artifacts import Log, Outcome


def evaluate_version(
    out: Path,
    log: Log,
    *,
    title: str,
    data: Path,
    part: Path | None,
    version: Path,
    model: ModelSettings,
    settings: EvaluateSettings,
    context: int,
    seed: int,
) -> Outcome:
    """Write `problems.jsonl`, a row a question, as the stage `evaluate` does, and return the figures.

    Args:
        out: where to write.
        log: unused; evaluation has no curve.
        title: of the progress bar.
        data: folder with the questions as `held_out.jsonl`.
        part: artifact of the stage `part`, where not all of them are asked.
        version: folder of the version, as it was registered: weights and tokenizer.
        model: how to load it.
        settings: how many samples a question, and how long a response may be.
        context: tokens of prompt and response together.
        seed: of the sampling.
    """
    with TemporaryDirectory() as folder:
        # a version's files lie at the top of its folder, those of a stage, which `evaluate` takes, in `model/`
        artifact = Path(folder)
        (artifact / "model").symlink_to(version.resolve(), target_is_directory=True)
        return evaluate(
            out,
            log,
            title=title,
            data=data,
            part=part,
            subject=artifact,
            reference=artifact,
            reference_results=None,
            is_policy=False,
            tokenizer=version,
            model=model,
            settings=settings,
            context=context,
            seed=seed,
        )
