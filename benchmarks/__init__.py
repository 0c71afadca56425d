"""Commands that print the figures we state. Each makes its own fresh copy of the repository, so no cache helps it."""
