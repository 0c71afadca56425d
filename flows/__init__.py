"""Time: the order of stages and their caching (Prefect)."""
