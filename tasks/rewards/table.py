"""The name under which `tasks/training/ppo.py` still imports what a source of rewards is (`tasks.rewards.interface`)."""

from tasks.rewards.interface import RewardSource

__all__ = ["RewardSource"]
