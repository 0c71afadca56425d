"""Arithmetic on batches of tokens: masks, log-probabilities, losses."""
