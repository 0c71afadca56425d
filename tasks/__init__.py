"""Services: files, DVC, Great Expectations, MLflow, TRL."""
