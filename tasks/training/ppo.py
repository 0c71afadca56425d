"""The stage `ppo`: our PPO, generalised advantages from a critic (posttrain/rl/estimators.py) in PPO's loop."""

from pathlib import Path
from typing import Any

from posttrain.rl.estimators import GeneralisedAdvantage
from posttrain.settings.ppo import PPOSettings
from tasks.training.loop import train_policy
from tasks.workspace.artifacts import Log, Outcome


def train(out: Path, log: Log, *, settings: PPOSettings, **given: Any) -> Outcome:
    """Train with PPO; `given` is what `tasks.training.loop.train_policy` takes."""
    return train_policy(out, log, settings=settings, estimator=GeneralisedAdvantage(settings), **given)
