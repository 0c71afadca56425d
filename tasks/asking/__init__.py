"""Models that answer somebody: one prompt or many, side by side, and a conversation."""
