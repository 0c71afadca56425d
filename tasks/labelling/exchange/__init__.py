"""Labels as other tools keep them: a file each, written whole, and read whole or not at all (docs/labelling-exchange.md)."""
