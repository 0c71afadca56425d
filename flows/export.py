"""`make export`: a registered version as a Hugging Face directory or a GGUF file, and whether it still answers as it did."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flows.champion_score import as_measured
from flows.named_models import model_as_recorded, version_named
from flows.promotion import registry
from flows.use_requests import ExportRequest
from posttrain.errors import DataError, RequestError
from posttrain.printable import printable
from posttrain.settings.config import Config
from tasks.exporting.export import Measured, Version, held_against, write_card, write_files
from tasks.exporting.folder import building, check_place
from tasks.exporting.forms import GGUF
from tasks.exporting.gguf_file import why_not
from tasks.promotion.evaluations import Evaluation, evaluation_of
from tasks.tracking.registry import WEIGHTS_TAG
from tasks.workspace.paths import Paths

Say = Callable[[str], None]


def export(paths: Paths, config: Config, request: ExportRequest, say: Say) -> None:
    """Write an export, let it answer the held-out questions of its evaluation, and say how alike the answers are.

    Raises:
        RequestError: there is no such version, something lies at the place, or the model cannot be written as GGUF.
        StorageError: files of the version are gone or damaged, or the disk refuses; then nothing of the export stays.
    """
    check_place(request.target, is_forced=request.is_forced)
    name, number, folder = version_named(paths, config, request.version, say)
    with registry(paths, config) as (ledger, _):
        digest = str(ledger.client.get_model_version(name, number).tags.get(WEIGHTS_TAG, ""))
        evaluation, trouble = None, ""
        try:
            evaluation = evaluation_of(ledger, name, number)
        except DataError as error:
            trouble = str(error)
    version = Version(name, number, folder, digest)
    if request.form == GGUF and (reason := why_not(folder)):
        raise RequestError(f"{version.title} cannot be exported as GGUF: {reason}. FORMAT=hf can export it")
    paths.store.mkdir(parents=True, exist_ok=True)
    with building(request.target, is_forced=request.is_forced) as out:
        file = write_files(version, out, form=request.form, precision=request.precision)
        found, says = None, f"not tested, since there is nothing to compare with: {trouble}"
        if evaluation:
            measured = measured_as(evaluation, config)
            say(f"{version.title}: it answers {len(measured.rows):,} held-out questions, as in its evaluation")
            found = held_against(out, file, measured, title="parity", scratch=paths.store)
            says = found.says()
        how: dict[str, Any] = {"form": request.form, "precision": request.precision, "file": file}
        write_card(version, out, **how, says=says.rstrip("."), found=found.as_record() if found else None)
        size = sum(one.stat().st_size for one in out.iterdir())
    print(printable(f"{version.title}: {request.form}{f' {request.precision}' if file else ''}, {size / 1e6:,.1f} MB"))
    print(printable(f"parity: {says}"))
    print(printable(str(request.target / file.name if file else request.target)))


def measured_as(evaluation: Evaluation, config: Config) -> Measured:
    """Return how a version is asked again: every setting that decides its answers is that of its evaluation.

    `evaluate.max_questions` of the settings lowers how many questions are asked.
    """
    kept = evaluation.settings
    how = as_measured(evaluation, config)
    samples = min(len(row["sampled"]) for row in evaluation.rows)
    recorded: dict[str, Any] = {"samples": max(samples, 1)}
    with suppress(KeyError, ValueError):
        recorded["temperature"] = float(kept["evaluate.temperature"])
    seed = config.seed
    with suppress(KeyError, ValueError):
        seed = int(kept["seed"])
    most = config.evaluate.max_questions or len(evaluation.rows)
    return Measured(
        rows=evaluation.rows[: max(most, 2)],
        model=model_as_recorded(config, kept),
        settings=how["settings"].model_copy(update=recorded),
        context=how["context"],
        seed=seed,
        pipeline_id=evaluation.pipeline_id,
    )
