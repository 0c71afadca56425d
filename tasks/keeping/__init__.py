"""Backups of what cannot be made again, their restoring, and the removal of what is old."""
