"""A Python function of the user's as a reward."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from posttrain.errors import RequestError
from tasks.rewards.interface import Naming, RewardSource
from tasks.workspace.artifacts import file_digest

if TYPE_CHECKING:
    from posttrain.rl.rewards import RewardFunction


@dataclass(frozen=True)
class PythonReward(RewardSource):
    """A function of a module that can be imported.

    Attributes:
        module: dotted name.
        function: its name in the module.
        text: digest of the module's file.
    """

    kind: ClassVar[str] = "python"

    module: str
    function: str
    text: str

    @classmethod
    def named(cls, name: str, how: Naming) -> Self:
        """Return the function that `python:<module>:<function>` names; it is imported once, so that it is known to be one."""
        module, _, function = name.partition(":")[2].partition(":")
        if not module or not function:
            raise RequestError(
                f"ppo.reward={name}: a function is written python:<module>:<function>, say python:my_rewards:score"
            )
        try:
            spec = find_spec(module)
        except (ImportError, ValueError, AttributeError) as error:
            raise RequestError(f"ppo.reward={name}: the module {module} cannot be imported: {error}") from None
        if spec is None or spec.origin is None:
            raise RequestError(
                f"ppo.reward={name}: there is no module {module}. Put {module.replace('.', '/')}.py into the repository's root, "
                "or install the package that has it"
            )
        found = cls(name=name, module=module, function=function, text=file_digest(Path(spec.origin)))
        found.load()
        return found

    @property
    def decides(self) -> Any:
        """The function's name and its module's text."""
        return [self.function, self.text]

    def load(self) -> "RewardFunction":
        """Return the function.

        Raises:
            RequestError: importing it raises, or it is no function.
        """
        try:
            function = getattr(import_module(self.module), self.function)
        except Exception as error:  # importing runs the user's code, which may raise anything
            raise RequestError(f"ppo.reward={self.name} cannot be imported: {type(error).__name__}: {error}") from error
        if not callable(function):
            raise RequestError(f"ppo.reward={self.name}: {self.function} is {type(function).__name__}, not a function")
        reward: RewardFunction = function  # what it takes and gives is checked where it is called
        return reward
