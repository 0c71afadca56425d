"""The stage `grpo`: GRPO in PPO's loop, where responses to one question are compared with each other (posttrain/rl/grpo.py)."""

from pathlib import Path
from typing import Any

from posttrain.rl.grpo import GroupRelative
from posttrain.settings.grpo import GRPOSettings
from tasks.training.loop import train_policy
from tasks.workspace.artifacts import Log, Outcome


def train(out: Path, log: Log, *, grpo: GRPOSettings, **given: Any) -> Outcome:
    """Train with GRPO; `given` is what `tasks.training.loop.train_policy` takes."""
    return train_policy(out, log, estimator=GroupRelative(grpo), **given)
