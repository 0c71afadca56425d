"""Stages as content-addressed folders: a key (`tasks.workspace.keys`), files that are checked against their digests.

A stage writes into `<key>.part-<pid>` beside its final place and is renamed when it is whole, so a kill at any instant
leaves either no artifact or a complete one. Two processes that want the same artifact make it once: the second waits.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.workspace.disk import storage_errors, sync
from tasks.workspace.memory import own_memory, peak_rss_mb
from tasks.workspace.paths import Paths
from tasks.workspace.shared_stages import SharedStages, TroubleError

LARGE = 2**26
"""Bytes of a file above which a glance does not read it: 64 MiB are read in a tenth of a second."""
HOW_IT_WENT = ("curves.jsonl", "judge.json")
"""Files of a stage that hold times, or what a cache had already: made again they differ, and nothing is computed from them."""
VERSIONS_IN_KEY = ("torch", "transformers", "trl")
Log = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Outcome:
    """What a stage says of itself besides its files.

    Attributes:
        metrics: final figures by name.
        costs: of `train_seconds`, `generated_tokens`, `trained_tokens`, `critic_tokens`, `forward_tokens`, `flops`, `labels`,
            those that apply (mlflow/README.md); `peak_rss_mb` of other processes alone, where the stage had any.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A finished stage, as `stage.json` in its folder has it."""

    stage: str
    key: str
    folder: str
    seconds: float
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    digest: str

    @property
    def path(self) -> Path:
        """Its folder."""
        return Path(self.folder)

    @property
    def uri(self) -> str:
        """What names the model in it: in labels, which say who wrote the responses."""
        return f"stage:{self.stage}/{self.key}"


def find(paths: Paths, stage: str, key: str) -> tuple[Artifact | None, str]:
    """Return the finished artifact whose files all match their digests, or None and one line that says what is wrong.

    The line is empty where there simply is no artifact yet.
    """
    folder = paths.stages / stage / key
    if not folder.is_dir():
        return None, ""
    told = _told(folder, stage, key)
    if told is None:
        return None, f"{stage}: the cached result {key[:12]} has no readable stage.json, so it is made again"
    artifact, files = told
    for name, recorded in files.items():
        if not (folder / name).is_file():
            return None, f"{stage}: the cached result {key[:12]} lacks {name}, so it is made again"
        if file_digest(folder / name) != recorded:
            return None, f"{stage}: {name} of the cached result {key[:12]} is damaged, so it is made again"
    return artifact, ""


def glance(paths: Paths, stage: str, key: str) -> Artifact | None:
    """Return the finished artifact whose small files match their digests and whose large ones are there; None for none.

    `find` reads every byte, which takes minutes where models are large. This is for a question that no weights answer.
    """
    folder = paths.stages / stage / key
    told = _told(folder, stage, key)
    if told is None:
        return None
    artifact, files = told
    try:
        is_whole = all(
            (folder / name).stat().st_size > LARGE or file_digest(folder / name) == recorded for name, recorded in files.items()
        )
    except OSError:
        return None
    return artifact if is_whole else None


def _told(folder: Path, stage: str, key: str) -> tuple[Artifact, dict[str, str]] | None:
    """Return an artifact and the digests of its files as `stage.json` has them; None where it cannot be read, or is another's."""
    try:
        facts = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        files: dict[str, str] = facts["files"]
        is_whole = (facts["stage"], facts["key"], facts["digest"]) == (stage, key, _digest_of(files)) and all(
            isinstance(facts[name], dict) for name in ("metrics", "costs", "settings", "inputs")
        )
        artifact = Artifact(
            **{name: facts[name] for name in ("stage", "key", "seconds", "metrics", "costs", "digest")}, folder=str(folder)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return (artifact, files) if is_whole else None


def earlier_seconds(paths: Paths, stage: str, *, settings: Mapping[str, Any]) -> float | None:
    """Return what the stage took before, with the settings that differ least from these, the last time; None for a new one."""
    like = most_like(made_before(paths, stage), settings)
    return None if like is None else float(like["seconds"])


def made_before(paths: Paths, stage: str) -> list[dict[str, Any]]:
    """Return what `stage.json` says of every finished artifact of a stage, the oldest first."""
    found = []
    for file in (paths.stages / stage).glob("*/stage.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            facts = json.loads(file.read_text(encoding="utf-8"))
            checked = {"seconds": float(facts["seconds"]), "settings": dict(facts["settings"])}
            found.append((file.stat().st_mtime, {**facts, **checked}))
    return [facts for _, facts in sorted(found, key=lambda one: one[0])]


def most_like(made: Sequence[dict[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return that of several whose settings differ least from these, the last of equals; None where there is none."""
    now = json.loads(json.dumps(dict(settings), default=str))

    def differ(then: Mapping[str, Any]) -> int:
        return sum(now.get(name) != then.get(name) for name in now.keys() | then.keys())

    return min(reversed(made), key=lambda facts: differ(facts["settings"]), default=None)


def make(
    paths: Paths,
    stage: str,
    key: str,
    compute: Callable[[Path, Log], Outcome],
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    forward: Log | None = None,
    say: Callable[[str], None] = lambda line: None,
    shared: SharedStages | None = None,
) -> tuple[Artifact, bool]:
    """Return the artifact and whether it was there already; compute it where it is missing or damaged.

    Args:
        paths: where artifacts lie.
        stage: its name.
        key: as `stage_key` gives it.
        compute: writes the stage's files into the folder it is given, logs curves, and returns what it has to say.
        settings: written into `stage.json`.
        inputs: written into `stage.json`.
        forward: is told every logged point as well (MLflow's live curves).
        say: is told one line where a cached result is damaged, or another process is making this one.
        shared: storage that other machines put stages into; what is there is fetched, and counts as having been there.

    Raises:
        StorageError: the disk is full or read-only; what was finished before is untouched.
    """
    with storage_errors(f"stage {stage}", paths.stages):
        (paths.stages / stage).mkdir(parents=True, exist_ok=True)
        with _lock(paths.stages / stage / f"{key}.lock", lambda: say(f"{stage}: waiting for the run that is making it")):
            artifact, trouble = find(paths, stage, key)
            if artifact:
                return artifact, True
            if trouble:
                say(trouble)
            sweep(paths.stages / stage, key)
            with _turn(shared, stage, key, say) as is_ours:
                if shared and not is_ours and (fetched := _fetched(paths, stage, key, shared, say)):
                    return fetched, True
                artifact = _compute(paths, stage, key, compute, settings=settings, inputs=inputs, forward=forward)
                if shared:
                    with _told_on(say, f"{stage} stays on this machine alone"):
                        shared.offer(stage, key, artifact.path)
                return artifact, False


def take(paths: Paths, stage: str, key: str, shared: SharedStages | None, say: Callable[[str], None]) -> bool:
    """Have a finished stage in this folder, from the shared storage where it is not there; return whether it is."""
    with storage_errors(f"stage {stage}", paths.stages):
        (paths.stages / stage).mkdir(parents=True, exist_ok=True)
        with _lock(paths.stages / stage / f"{key}.lock", lambda: None):
            if find(paths, stage, key)[0]:
                return True
            sweep(paths.stages / stage, key)
            return shared is not None and _fetched(paths, stage, key, shared, say) is not None


@contextmanager
def _turn(shared: SharedStages | None, stage: str, key: str, say: Callable[[str], None]) -> Iterator[bool]:
    """Wait for other machines that make the stage; yield whether it is ours to make. Storage that fails holds nobody up."""
    with ExitStack() as stack:
        is_ours = True
        if shared:
            with _told_on(say, f"{stage} is made here"):
                is_ours = stack.enter_context(shared.turn(stage, key, say))
        yield is_ours


def _fetched(paths: Paths, stage: str, key: str, shared: SharedStages, say: Callable[[str], None]) -> Artifact | None:
    """Fetch what another machine has made; None where that cannot be had."""
    final = paths.stages / stage / key
    part = final.with_name(f"{key}.part-{os.getpid()}")
    part.mkdir()
    try:
        with _told_on(say, f"{stage} is made here"):
            if shared.fetch(stage, key, part) and _told(part, stage, key):
                _put_in_place(part, final)
                return find(paths, stage, key)[0]
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return None


@contextmanager
def _told_on(say: Callable[[str], None], instead: str) -> Iterator[None]:
    """Say in a line that the shared storage failed, and what happens instead."""
    try:
        yield
    except TroubleError as error:
        say(f"note: {error}; {instead}")


def _put_in_place(part: Path, final: Path) -> None:
    for path in part.rglob("*"):
        if path.is_file():
            sync(path)
    if final.exists():
        shutil.rmtree(final)
    part.rename(final)
    sync(final.parent)


def _compute(
    paths: Paths,
    stage: str,
    key: str,
    compute: Callable[[Path, Log], Outcome],
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    forward: Log | None,
) -> Artifact:
    final = paths.stages / stage / key
    part = final.with_name(f"{key}.part-{os.getpid()}")
    part.mkdir()
    started = time.perf_counter()
    try:
        with (part / "curves.jsonl").open("w", encoding="utf-8") as curves:

            def log(step: int, metrics: Mapping[str, float]) -> None:
                curves.write(json.dumps({"step": step, **metrics}) + "\n")
                if forward:
                    forward(step, metrics)

            with own_memory():
                outcome = compute(part, log)
                costs = {**outcome.costs, "peak_rss_mb": peak_rss_mb() + outcome.costs.get("peak_rss_mb", 0.0)}
        seconds = time.perf_counter() - started
        if not (part / "curves.jsonl").stat().st_size:
            (part / "curves.jsonl").unlink()
        files = {str(path.relative_to(part)): file_digest(path) for path in sorted(part.rglob("*")) if path.is_file()}
        facts: dict[str, Any] = {
            "stage": stage,
            "key": key,
            "seconds": round(seconds, 3),
            "metrics": dict(outcome.metrics),
            "costs": costs,
            "digest": _digest_of(files),
            "settings": dict(settings),
            "inputs": dict(inputs),
            "versions": {name: version(name) for name in VERSIONS_IN_KEY},
            "files": files,
        }
        (part / "stage.json").write_text(json.dumps(facts, indent=1, default=str), encoding="utf-8")
        _put_in_place(part, final)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Artifact(
        folder=str(final), **{name: facts[name] for name in ("stage", "key", "seconds", "metrics", "costs", "digest")}
    )


def _digest_of(files: Mapping[str, str]) -> str:
    """Return the digest of a result: of its files' digests, but for those that tell how it went."""
    results = {name: digest for name, digest in files.items() if name not in HOW_IT_WENT}
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_findings(out: Path, names: Sequence[str], *, at: Path) -> None:
    """Copy files of an artifact that will not be finished to where they can be looked into."""
    at.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(out / name, at / name)


@contextmanager
def _lock(path: Path, when_waiting: Callable[[], None]) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            when_waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def half_made(paths: Paths) -> list[Path]:
    """Return the parts that killed runs left: those of keys that nobody has locked."""
    return [part for part in sorted(paths.stages.glob("*/*.part-*")) if _is_free(part.parent, part.name.partition(".part-")[0])]


def _is_free(folder: Path, key: str) -> bool:
    with suppress(OSError), (folder / f"{key}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return not (folder / f"{key}.lock").exists()


def sweep(folder: Path, held: str = "") -> None:
    """Remove what killed runs left half-made: parts of the key whose lock we hold, and of keys that nobody has locked."""
    for part in folder.glob("*.part-*"):
        key = part.name.partition(".part-")[0]
        if key == held:
            shutil.rmtree(part, ignore_errors=True)
            continue
        with (folder / f"{key}.lock").open("w") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(part, ignore_errors=True)
