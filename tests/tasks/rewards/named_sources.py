"""What `ppo.reward` names, for tests, and a question that it is asked about."""

from pathlib import Path

from tasks.rewards.sources.table import reward_source

RECORD = {"id": "q1", "prompt": "Tom has 3 apples and finds 4. How many?", "answers": ["7"]}


def source(name, **how):
    return reward_source(name, **({"partial_credit": 0.0, "registered": Path} | how))
