"""Labelling over files: batches on the disk, their log, personal links, the desk that a page talks to, and the end of a batch."""
