"""Programs that mark a completion."""
