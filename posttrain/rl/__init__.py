"""Learning from a reward: rollouts, shaping, advantages, the loop, what must hold while it trains."""
