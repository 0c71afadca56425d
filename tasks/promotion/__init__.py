"""Promotion over MLflow: the evaluation of a version, moves of its aliases and their history, and the card beside its files."""
