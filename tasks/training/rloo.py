"""The stage `rloo`: RLOO in PPO's loop, where a response is compared with the others to its question (posttrain/rl/rloo.py)."""

from pathlib import Path
from typing import Any

from posttrain.rl.rloo import LeaveOneOut
from posttrain.settings.rloo import RLOOSettings
from tasks.training.loop import train_policy
from tasks.workspace.artifacts import Log, Outcome


def train(out: Path, log: Log, *, rloo: RLOOSettings, **given: Any) -> Outcome:
    """Train with RLOO; `given` is what `tasks.training.loop.train_policy` takes."""
    return train_policy(out, log, estimator=LeaveOneOut(rloo), **given)
