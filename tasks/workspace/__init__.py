"""The files below the repository's root: paths, artifacts, checkpoints, locks, databases."""
