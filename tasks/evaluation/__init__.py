"""Models on held-out questions, and what PPO was rewarded by against gold."""
