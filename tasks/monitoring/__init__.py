"""Checks of new prompts: read them and those of a dataset, write the page of a check, and log it as a run."""
