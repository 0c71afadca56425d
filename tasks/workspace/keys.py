"""A stage's key: a digest of its arguments, of the source of its own code and of the libraries that compute.

What a stage is called with is its key, so no input can be forgotten or written twice:

    artifact                    its digest; the stage gets its folder
    section of the settings     those of its settings that decide results; the stage gets the section
    number, text, true, none    itself
    reward source, judge, …     its `digest`; the stage gets the thing
    Contents(path, digest)      the digest; the stage gets the path
    NotDeciding(value)          nothing; the stage gets the value
    a bare path                 refused: what lies there may change, and the key would not
"""

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from posttrain.settings.config import flat
from posttrain.settings.model import ModelSettings
from posttrain.settings.section import Part, Section
from tasks.workspace.artifacts import VERSIONS_IN_KEY, Artifact

ROOMS = ("posttrain", "models", "tasks")
DECLARATIONS = (
    "posttrain.errors",
    "posttrain.methods",
    "posttrain.settings",
    "tasks.workspace.artifacts",
    "tasks.workspace.databases",
    "tasks.workspace.disk",
    "tasks.workspace.keys",
    "tasks.workspace.paths",
    "tasks.workspace.progress",
    "tasks.workspace.quiet",
)
"""Left out of source digests, folders as a whole: settings enter keys by value, and the others do not touch a result."""


@dataclass(frozen=True)
class Contents:
    """A file or folder, and the digest of what lies there."""

    path: Path
    digest: str


@dataclass(frozen=True)
class NotDeciding:
    """What a stage needs but what decides nothing about its result: a cache, a folder for findings, a title."""

    value: Any


@dataclass(frozen=True)
class Inputs:
    """A stage's arguments, sorted.

    Attributes:
        settings: values by name, settings by dotted name.
        digests: of what it reads, by the argument's name.
        arguments: what its function is called with.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)


def sorted_inputs(stage: str, arguments: Mapping[str, Any], *, device: str) -> Inputs:
    """Return what of a stage's arguments enters its key, and what the stage gets.

    Args:
        stage: its name, for messages.
        arguments: by name.
        device: where models run; it enters the key of a stage that gets `ModelSettings`, since a GPU's weights are not a CPU's.

    Raises:
        TypeError: an argument is a bare path, or of a kind that no key can hold.
    """
    settings: dict[str, Any] = {}
    digests: dict[str, str] = {}
    given: dict[str, Any] = {}
    for name, value in arguments.items():
        given[name] = value
        match value:
            case NotDeciding():
                given[name] = value.value
            case Section() | Part():
                settings |= flat(value)
                if isinstance(value, ModelSettings):
                    settings["device"] = device
            case None:
                digests[name] = ""
            case bool() | int() | float() | str():
                settings[name] = value
            case Path():
                raise TypeError(
                    f"stage {stage}: its argument {name} is a bare path, which enters no key. Give an artifact, "
                    "Contents(path, digest), or NotDeciding(path) where it decides nothing"
                )
            case Artifact() | Contents():
                digests[name], given[name] = value.digest, value.path
            case _ if isinstance(getattr(value, "digest", None), str):
                digests[name] = value.digest
            case _:
                raise TypeError(f"stage {stage}: its argument {name} is {type(value).__name__}, which no key can hold")
    return Inputs(settings=settings, digests=digests, arguments=given)


def digest_of(parts: Mapping[str, Any]) -> str:
    """Return the sha256 of a mapping, whatever the order of its names."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def stage_key(
    stage: str,
    inputs: Inputs,
    *,
    compute: str,
    source: Callable[[str], str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """Return the sha256 over everything that decides a stage's result.

    Args:
        stage: its name.
        inputs: of the stage.
        compute: its function, as `module:function`.
        source: returns a module's source digest, by default `source_digest`; whoever asks for many keys at once remembers it.
        versions: of the libraries that compute; by default those that are installed.
    """
    parts = {
        "stage": stage,
        "settings": inputs.settings,
        "inputs": inputs.digests,
        "source": (source or source_digest)(compute.partition(":")[0]),
        "versions": installed_versions() if versions is None else dict(versions),
    }
    return digest_of(parts)


@cache
def installed_versions() -> dict[str, str]:
    """Return the versions of the libraries that compute, as keys hold them; asked once, since a comparison takes many keys."""
    return {name: version(name) for name in VERSIONS_IN_KEY}


def source_digest(module: str) -> str:
    """Return a digest of the source of `module` and of every module of ours that it imports, directly or not."""
    digest = hashlib.sha256()
    for name, path in sorted(closure(module).items()):
        digest.update(f"{name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def closure(module: str) -> dict[str, Path]:
    """Return the files of `module` and of every module of ours that it imports, by module; late imports count."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in found or _is_declaration(name) else _file_of(name)
        if path is None:
            continue
        found[name] = path
        waiting += _imports(path.read_bytes())
    return found


@lru_cache(maxsize=1_000)
def _imports(source: bytes) -> tuple[str, ...]:
    """Return what a module may import of ours; kept, because a pipeline's stages share most of their modules."""
    return tuple(dict.fromkeys(names_imported(ast.walk(ast.parse(source)))))


def names_imported(nodes: Iterable[ast.AST]) -> list[str]:
    """Return the dotted names that some code imports; `from a import b` is both a and a.b."""
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _is_declaration(name: str) -> bool:
    return any(name == left_out or name.startswith(f"{left_out}.") for left_out in DECLARATIONS)


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
