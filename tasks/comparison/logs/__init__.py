"""Per-question logs of other tools as results that can be compared: a file a format, recognised by its contents."""

from tasks.comparison.logs.reading import Logs, read_logs

__all__ = ["Logs", "read_logs"]
