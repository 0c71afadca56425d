"""Upkeep: do the stores agree with each other, with the machine and with its tools; what is safe is mended."""
