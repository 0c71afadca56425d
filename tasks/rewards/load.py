"""A reward function at work: within its time limit."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.errors import ContractError
from posttrain.rl.rewards import RewardFunction, Rewards, named, rewarded
from tasks.workspace.interrupts import REWARD


def within(
    seconds: float | None,
    function: RewardFunction,
    name: str,
    prompts: Sequence[str],
    completions: Sequence[str],
    records: Sequence[Mapping[str, Any]],
) -> Rewards:
    """Return the rewards of a batch, or stop the run where they take longer than `seconds`; None: they may take their time.

    The reward runs in a thread of its own, which is left behind when it hangs: Python cannot end one, but the process can go.

    Raises:
        ContractError: it takes too long, raises, or returns what is no reward.
    """
    told: list[Rewards | BaseException] = []

    def work() -> None:
        try:
            told.append(rewarded(function, name, prompts, completions, records))
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=work, name=f"{REWARD}{name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if not told:
        raise ContractError(
            f"the reward {name} took longer than {seconds:g} s (ppo.reward_seconds) for {len(records)} responses, the first to "
            f"{named(records[0])}. Mend it, or raise ppo.reward_seconds"
        )
    if isinstance(told[0], BaseException):
        raise told[0]
    return told[0]
