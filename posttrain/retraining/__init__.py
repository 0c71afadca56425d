"""Retraining: what is another since the champion was made, and whether that calls for a new model."""
