"""One file a trainer: SFT, DPO, PPO, the reward model."""
