"""Samples, pairs of them, and the labels that somebody gives."""
