"""Whether new prompts are of the kind that a model was trained on: a two-sample test, and figures that say how they differ."""
