"""What an evaluation measures, and when a rising reward misleads."""
