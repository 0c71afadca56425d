"""What `ppo.reward` names, checked before anything is trained and without torch, which a cached run does not wait for."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from posttrain.errors import RequestError
from tasks.rewards.grader_files import read_grader
from tasks.workspace.artifacts import file_digest

if TYPE_CHECKING:
    from posttrain.rl.rewards import RewardFunction

FORMS = "answer, program, a grader's JSON file, model:<directory or models:/name@alias>, or python:<module>:<function>"


@dataclass(frozen=True)
class RewardSource:
    """Where rewards come from.

    Attributes:
        kind: what scores.
        name: as the setting has it.
        digest: of what decides its scores, for the stage's key.
        spec: a grader's schema.
        path: a model's directory; "module:function" of a function.
        judge: arguments of `tasks.judges.judge.judge_reward`.
    """

    kind: Literal["grader", "model", "python", "judge"]
    name: str
    digest: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    judge: Mapping[str, Any] = field(default_factory=dict)


def reward_source(name: str, *, partial_credit: float, registered: Callable[[str], Path]) -> RewardSource:
    """Return what a setting names.

    Args:
        name: `ppo.reward`.
        partial_credit: `ppo.partial_credit`.
        registered: returns the folder of a registered model (`tasks.tracking.registry.local_path`).

    Raises:
        RequestError: it names nothing that is there, or nothing that can be used.
    """
    source = _named(name, partial_credit=partial_credit, registered=registered)
    if source.kind == "grader":
        from posttrain.graders import build_grader

        build_grader(source.spec)
    elif source.kind == "python":
        imported(source)
    return source


def _named(name: str, *, partial_credit: float, registered: Callable[[str], Path]) -> RewardSource:
    kind, _, rest = name.partition(":")
    if kind == "python":
        return _function(name, rest)
    if kind == "model":
        return _model(name, registered(rest) if rest.startswith("models:/") else Path(rest))
    from posttrain.graders.build import BUILT_IN

    if name in BUILT_IN:
        spec: dict[str, Any] = {"type": name, "name": name, "partial_credit": partial_credit}
        return RewardSource(kind="grader", name=name, digest=_digest(spec), spec=spec)
    if not name.endswith(".json"):
        raise RequestError(f"ppo.reward={name}: there is no such reward. It is {FORMS}")
    spec = read_grader(name, setting="ppo.reward")
    return RewardSource(kind="grader", name=name, digest=_digest(spec), spec=spec)


def _digest(spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def _function(name: str, path: str) -> RewardSource:
    module, _, function = path.partition(":")
    if not module or not function:
        raise RequestError(f"ppo.reward={name}: a function is written python:<module>:<function>, say python:my_rewards:score")
    try:
        spec = find_spec(module)
    except (ImportError, ValueError, AttributeError) as error:
        raise RequestError(f"ppo.reward={name}: the module {module} cannot be imported: {error}") from None
    if spec is None or spec.origin is None:
        raise RequestError(
            f"ppo.reward={name}: there is no module {module}. Put {module.replace('.', '/')}.py into the repository's root, or "
            "install the package that has it"
        )
    return RewardSource(kind="python", name=name, digest=file_digest(Path(spec.origin)), path=path)


def _model(name: str, folder: Path) -> RewardSource:
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise RequestError(
            f"ppo.reward={name}: {folder} is no model directory with config.json and *.safetensors. A reward model is one for "
            "sequence classification with one score, and its tokenizer"
        )
    labels = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("id2label", {"0": "", "1": ""})
    if len(labels) != 1:
        raise RequestError(f"ppo.reward={name}: a reward model has one score, this one has {len(labels)}")
    files = {str(file.relative_to(folder)): file_digest(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    return RewardSource(kind="model", name=name, digest=_digest(files), path=str(folder))


def imported(source: RewardSource) -> "RewardFunction":
    """Return the function that `python:<module>:<function>` names.

    Raises:
        RequestError: importing it raises, or it is no function.
    """
    module, _, name = source.path.partition(":")
    try:
        function = getattr(import_module(module), name)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise RequestError(f"ppo.reward={source.name} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise RequestError(f"ppo.reward={source.name}: {name} is {type(function).__name__}, not a function")
    reward: RewardFunction = function  # what it takes and gives is checked where it is called
    return reward
