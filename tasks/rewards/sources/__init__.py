"""Kinds of rewards, each in a file of its own name, and the table that a setting is looked up in."""
