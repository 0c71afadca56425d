"""The stages `tasks-<model>`: tasks of lm-evaluation-harness, on which a model shows what a method costs elsewhere.

InstructGPT calls that cost the alignment tax (arXiv:2203.02155, section 4.2).
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from posttrain.errors import DataError, RequestError, did_you_mean
from posttrain.settings.model import ModelSettings
from posttrain.statistics.figures import flattened
from posttrain.statistics.intervals import clustered_proportion, paired_gain
from tasks.workspace.artifacts import Log, Outcome, file_digest
from tasks.workspace.jsonl import read_rows, write_rows
from tasks.workspace.keys import digest_of

SAMPLES = "samples.jsonl"
"""A row a question: task, id, metric, score."""
PREFERRED = ("acc_norm", "acc", "exact_match")
"""Metrics of which the first that a task has is read, else its first. `acc_norm` takes the length of answers out."""
_TASK = re.compile(r"^task:[ \t]*[\"']?([\w.-]+)", re.MULTILINE)


def task_names(asked: str) -> list[str]:
    """Return what `evaluate.tasks` names: words between spaces or commas."""
    return asked.replace(",", " ").split()


def task_files(asked: str) -> list[Path]:
    """Return those of them that are files."""
    return [Path(name).expanduser() for name in task_names(asked) if name.endswith((".yaml", ".yml"))]


def check_tasks(asked: str) -> None:
    """Refuse before anything runs tasks that cannot be asked.

    Raises:
        RequestError: lm-evaluation-harness is not installed, a file is missing or names no task, or there is no such task.
    """
    if not task_names(asked):
        return
    if find_spec("lm_eval") is None:
        raise RequestError(
            "evaluate.tasks needs lm-evaluation-harness, which is not installed: .venv/bin/python -m pip install -e '.[tasks]'"
        )
    for name, file in zip(called(asked), task_names(asked), strict=True):
        if file.endswith((".yaml", ".yml")):
            continue
        known = _manager(asked).all_tasks
        if name not in known:
            raise RequestError(
                f"evaluate.tasks: lm-evaluation-harness has no task {name}{did_you_mean(name, known)}. "
                "Its own list: .venv/bin/lm_eval ls tasks; a task of yours: ./folder/task.yaml"
            )


def called(asked: str) -> list[str]:
    """Return the tasks as lm-evaluation-harness calls them: a file by the name in it.

    Raises:
        RequestError: a file is missing, or names no task.
    """
    names = []
    for name in task_names(asked):
        if name.endswith((".yaml", ".yml")):
            try:
                found = _TASK.search(Path(name).expanduser().read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise RequestError(f"evaluate.tasks: {name} cannot be read: {error}") from None
            if not found:
                raise RequestError(f"evaluate.tasks: {name} has no line `task: name`, by which lm-evaluation-harness knows it")
            name = found[1]
        names.append(name)
    return names


def tasks_digest(asked: str) -> str:
    """Return what identifies the files of tasks: those that lie beside them count, since a task reads its data there."""
    folders = sorted({file.resolve().parent for file in task_files(asked)})
    return digest_of({str(path): file_digest(path) for folder in folders for path in sorted(folder.iterdir()) if path.is_file()})


@cache
def _manager(asked: str) -> Any:
    from lm_eval.tasks import TaskManager

    folders = sorted({str(file.resolve().parent) for file in task_files(asked)})
    return TaskManager(include_path=folders or None)


def evaluate_tasks(
    out: Path,
    log: Log,
    *,
    title: str,
    subject: Path,
    baseline: Path | None,
    tokenizer: Path,
    model: ModelSettings,
    context: int,
    tasks: str,
    questions: int,
    batch_size: int,
    seed: int,
) -> Outcome:
    """Write `samples.jsonl`, a row a question of each task, and return each task's score, and its gain over the baseline's.

    Prompts are those of lm-evaluation-harness, in its plain form: the chat template is not applied.

    Args:
        out: where to write.
        log: unused; there is no curve.
        title: of the progress bar.
        subject: artifact of the model.
        baseline: the same stage of the model that the method started from; None where it is the one under test.
        tokenizer: folder of the tokenizer.
        model: how to load it.
        context: tokens of a prompt and what follows, at most.
        tasks: as `evaluate.tasks` names them.
        questions: of each task, at most; 0 for all.
        batch_size: sequences read together.
        seed: of few-shot examples, where a task has them.

    Raises:
        RequestError: a task's data cannot be loaded, or a task gives no score between 0 and 1 to each question.
    """
    # whoever checks what was asked does not wait for torch
    from models.load import device, load_model, load_tokenizer
    from tasks.workspace.progress import bar
    from tasks.workspace.quiet import quiet_libraries
    from tasks.workspace.weights import source_of

    source, revision = source_of(subject)
    network = load_model(source, model, on=device(), revision=revision)
    started = time.perf_counter()
    with quiet_libraries(), bar(title, 1) as advance:
        found = _answered(network, load_tokenizer(tokenizer), tasks, context=context, most=questions, rows=batch_size, seed=seed)
        advance(1, "")
    rows = list(_rows(found))
    write_rows(out / SAMPLES, rows)
    before = _by_task(list(read_rows(baseline / SAMPLES))) if baseline else {}
    metrics: dict[str, float] = {}
    for task, scores in _by_task(rows).items():
        ours = list(scores.values())
        metrics |= flattened({task: clustered_proportion(ours)}) | {f"{task}_questions": len(ours)}
        if task in before:
            if list(before[task]) != list(scores):
                raise DataError(f"evaluate.tasks: {task} asked other questions than of the model before. Run again")
            metrics |= flattened({f"{task}_gain": paired_gain(ours, list(before[task].values()))})
    return Outcome(metrics=metrics, costs={"evaluate_seconds": time.perf_counter() - started})


def _answered(network: Any, reader: Any, tasks: str, *, context: int, most: int, rows: int, seed: int) -> Mapping[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    asked = HFLM(pretrained=network, tokenizer=reader, backend="causal", batch_size=rows, max_length=context)
    seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), seed)
    try:
        found: Mapping[str, Any] = simple_evaluate(
            asked,
            tasks=called(tasks),
            limit=most or None,
            bootstrap_iters=0,
            log_samples=True,
            task_manager=_manager(tasks),
            **seeds,
        )
    except (OSError, ValueError, KeyError, ConnectionError) as error:
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RequestError(
            f"evaluate.tasks={tasks}: lm-evaluation-harness could not ask it: {told}. Its data come from the Hugging Face hub, "
            "unless the task is a file of yours"
        ) from error
    return found


def _rows(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row a question: by the first filter, and by the metric that `PREFERRED` chooses."""
    for task, samples in found["samples"].items():
        first = samples[0]
        metric = next((name for name in PREFERRED if name in first["metrics"]), first["metrics"][0])
        if not found.get("higher_is_better", {}).get(task, {}).get(metric, True):
            raise RequestError(f"evaluate.tasks: of {task} less {metric} is better; shares of right answers are compared here")
        for sample in samples:
            if sample["filter"] != first["filter"]:
                continue
            score = sample[metric]
            if not isinstance(score, bool | int | float) or not 0 <= score <= 1:
                raise RequestError(f"evaluate.tasks: {task} gives a question no score between 0 and 1 ({metric})")
            yield {"task": task, "id": sample["doc_id"], "metric": metric, "score": float(score)}


def _by_task(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[Any, float]]:
    found: dict[str, dict[Any, float]] = {}
    for row in rows:
        found.setdefault(row["task"], {})[row["id"]] = row["score"]
    return found
