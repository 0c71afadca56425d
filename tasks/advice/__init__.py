"""The facts that advice rests on: what lies in a dataset's folder, how large a base is, and what earlier runs took."""
