"""Retraining over MLflow and the stage store: what a champion was made of, records of retrainings, faults that may pass."""
