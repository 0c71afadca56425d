"""Time: the order of stages, retries, caching, schedules (Prefect)."""
