"""MLflow: runs, their store, the registry."""
