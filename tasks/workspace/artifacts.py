"""Stages as content-addressed folders: a key from everything that decides the result, files checked against their digests.

A stage writes into `<key>.part-<pid>` beside its final place and is renamed when it is whole, so a kill at any instant
leaves either no artifact or a complete one. Two processes that want the same artifact make it once: the second waits.
"""

import ast
import errno
import fcntl
import hashlib
import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from posttrain.errors import PosttrainError, StorageError
from tasks.workspace.paths import Places

ROOMS = ("posttrain", "models", "tasks")
DECLARATIONS = (
    "posttrain.settings.config",
    "posttrain.settings.section",
    "posttrain.errors",
    "tasks.workspace.artifacts",
    "tasks.workspace.paths",
    "tasks.workspace.progress",
    "tasks.workspace.databases",
)
"""Left out of source digests: settings enter keys by value, and the others do not touch a result."""
VERSIONS_IN_KEY = ("torch", "transformers", "trl")
Log = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Outcome:
    """What a stage says of itself besides its files.

    Attributes:
        metrics: final figures by name.
        costs: of `train_seconds`, `generated_tokens`, `trained_tokens`, `critic_tokens`, `forward_tokens`, `flops`, `labels`,
            those that apply (mlflow/README.md).
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


def source_digest(module: str) -> str:
    """Return a digest of the source of `module` and of every module of ours that it imports, directly or not."""
    digest = hashlib.sha256()
    for name, path in sorted(_closure(module).items()):
        digest.update(f"{name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _closure(module: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in found or name in DECLARATIONS else _file_of(name)
        if path is None:
            continue
        found[name] = path
        waiting += _imports(path.read_bytes())
    return found


@lru_cache(maxsize=1_000)
def _imports(source: bytes) -> tuple[str, ...]:
    """Return what a module may import of ours; kept, because a pipeline's stages share most of their modules."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in dict.fromkeys(names) if name.partition(".")[0] in ROOMS)


def _file_of(name: str) -> Path | None:
    """Return the source of one of our modules, None for anything else; nothing is imported but the room's own package."""
    room, *parts = name.split(".")
    if room not in ROOMS:
        return None
    spec = find_spec(room)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent.joinpath(*parts)
    files = (place / "__init__.py", place.with_name(f"{place.name}.py") if parts else place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def stage_key(stage: str, *, settings: Mapping[str, Any], inputs: Mapping[str, str], module: ModuleType | str) -> str:
    """Return the sha256 over everything that decides a stage's result.

    Args:
        stage: its name.
        settings: the values it reads, by dotted name.
        inputs: digests of the artifacts and files it reads, by role.
        module: where it is implemented.
    """
    parts = {
        "stage": stage,
        "settings": settings,
        "inputs": inputs,
        "source": source_digest(module if isinstance(module, str) else module.__name__),
        "versions": {name: version(name) for name in VERSIONS_IN_KEY},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def find(places: Places, stage: str, key: str) -> tuple[Artifact | None, str]:
    """Return the finished artifact whose files all match their digests, or None and one line that says what is wrong.

    The line is empty where there simply is no artifact yet.
    """
    folder = places.stages / stage / key
    if not folder.is_dir():
        return None, ""
    try:
        told = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        files: dict[str, str] = told["files"]
        is_whole = (told["stage"], told["key"], told["digest"]) == (stage, key, _digest_of(files)) and all(
            isinstance(told[name], dict) for name in ("metrics", "costs", "settings", "inputs")
        )
        artifact = Artifact(
            **{name: told[name] for name in ("stage", "key", "seconds", "metrics", "costs", "digest")}, folder=str(folder)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        return None, f"{stage}: the cached result {key[:12]} has no readable stage.json, so it is made again"
    for name, recorded in files.items():
        if not (folder / name).is_file():
            return None, f"{stage}: the cached result {key[:12]} lacks {name}, so it is made again"
        if file_digest(folder / name) != recorded:
            return None, f"{stage}: {name} of the cached result {key[:12]} is damaged, so it is made again"
    return artifact, ""


def earlier_seconds(places: Places, stage: str, *, settings: Mapping[str, Any]) -> float | None:
    """Return what the stage took before, with the settings that differ least from these, the last time; None for a new one."""
    found = []
    now = json.loads(json.dumps(dict(settings), default=str))
    for file in (places.stages / stage).glob("*/stage.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            told = json.loads(file.read_text(encoding="utf-8"))
            then = told["settings"]
            differ = sum(now.get(name) != then.get(name) for name in now.keys() | then.keys())
            found.append((-differ, file.stat().st_mtime, float(told["seconds"])))
    return max(found)[2] if found else None


def make(
    places: Places,
    stage: str,
    key: str,
    compute: Callable[[Path, Log], Outcome],
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    forward: Log | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Artifact, bool]:
    """Return the artifact and whether it was there already; compute it where it is missing or damaged.

    Args:
        places: where artifacts lie.
        stage: its name.
        key: as `stage_key` gives it.
        compute: writes the stage's files into the folder it is given, logs curves, and returns what it has to say.
        settings: written into `stage.json`.
        inputs: written into `stage.json`.
        forward: is told every logged point as well (MLflow's live curves).
        say: is told one line where a cached result is damaged, or another process is making this one.

    Raises:
        StorageError: the disk is full or read-only; what was finished before is untouched.
    """
    with storage_errors(f"stage {stage}", places.stages):
        (places.stages / stage).mkdir(parents=True, exist_ok=True)
        with _lock(places.stages / stage / f"{key}.lock", lambda: say(f"{stage}: waiting for the run that is making it")):
            artifact, trouble = find(places, stage, key)
            if artifact:
                return artifact, True
            if trouble:
                say(trouble)
            _sweep(places.stages / stage, key)
            return _compute(places, stage, key, compute, settings=settings, inputs=inputs, forward=forward), False


def _compute(
    places: Places,
    stage: str,
    key: str,
    compute: Callable[[Path, Log], Outcome],
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    forward: Log | None,
) -> Artifact:
    final = places.stages / stage / key
    part = final.with_name(f"{key}.part-{os.getpid()}")
    part.mkdir()
    started = time.perf_counter()
    try:
        with (part / "curves.jsonl").open("w", encoding="utf-8") as curves:

            def log(step: int, metrics: Mapping[str, float]) -> None:
                curves.write(json.dumps({"step": step, **metrics}) + "\n")
                if forward:
                    forward(step, metrics)

            outcome = compute(part, log)
        seconds = time.perf_counter() - started
        if not (part / "curves.jsonl").stat().st_size:
            (part / "curves.jsonl").unlink()
        files = {str(path.relative_to(part)): file_digest(path) for path in sorted(part.rglob("*")) if path.is_file()}
        told = {
            "stage": stage,
            "key": key,
            "seconds": round(seconds, 3),
            "metrics": dict(outcome.metrics),
            "costs": {**outcome.costs, "peak_rss_mb": peak_rss_mb()},
            "digest": _digest_of(files),
            "settings": dict(settings),
            "inputs": dict(inputs),
            "versions": {name: version(name) for name in VERSIONS_IN_KEY},
            "files": files,
        }
        (part / "stage.json").write_text(json.dumps(told, indent=1, default=str), encoding="utf-8")
        for path in part.rglob("*"):
            if path.is_file():
                _to_disk(path)
        if final.exists():
            shutil.rmtree(final)
        part.rename(final)
        _to_disk(final.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Artifact(folder=str(final), **{name: told[name] for name in ("stage", "key", "seconds", "metrics", "costs", "digest")})


def _digest_of(files: Mapping[str, str]) -> str:
    """Return the digest of a result: of its files' digests, but for the curve, which holds times."""
    results = {name: digest for name, digest in files.items() if name != "curves.jsonl"}
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def peak_rss_mb() -> float:
    """Return the most memory that this process has held so far, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def keep_findings(out: Path, names: Sequence[str], *, at: Path) -> None:
    """Copy files of an artifact that will not be finished to where they can be looked into."""
    at.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(out / name, at / name)


def artifact_as_json(artifact: Artifact) -> dict[str, Any]:
    """Return the artifact as Prefect keeps it: small, JSON, no weights."""
    return asdict(artifact)


_NO_ROOM = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has no quota left",
    errno.EROFS: "is read-only",
    errno.EACCES: "may not be written",
}
_NO_ROOM_WORDS = {
    "No space left": "is full",
    "disk is full": "is full",
    "Disk quota": "has no quota left",
    "Read-only file system": "is read-only",
    "readonly database": "is read-only",
}


def storage_trouble(error: BaseException | None) -> str | None:
    """Return what the disk refused ("is full"), where an error or one of its causes comes from the disk; else None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return _NO_ROOM[error.errno]
        for words, trouble in _NO_ROOM_WORDS.items():
            if words.lower() in str(error).lower():
                return trouble
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def storage_errors(what: str, where: Path) -> Iterator[None]:
    """Turn errors of the disk into a StorageError that says what was being written, and where."""
    try:
        yield
    except PosttrainError:
        raise
    except Exception as error:
        trouble = storage_trouble(error)
        if trouble is None:
            raise
        raise StorageError(
            f"{what}: the disk {trouble} ({where}). Everything finished before is still there; "
            "make room (or make it writable), then give the same command again"
        ) from error


@contextmanager
def _lock(path: Path, when_waiting: Callable[[], None]) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            when_waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sweep(folder: Path, held: str) -> None:
    """Remove what killed runs left half-made: parts of the key whose lock we hold, and of keys that nobody has locked."""
    for part in folder.glob("*.part-*"):
        key = part.name.partition(".part-")[0]
        if key == held:
            shutil.rmtree(part, ignore_errors=True)
            continue
        with (folder / f"{key}.lock").open("w") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(part, ignore_errors=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
