"""What rows are: formats, facts of a row, near duplicates, the split, the default world."""
