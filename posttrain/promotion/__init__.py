"""Which version of a model serves: the gate that a challenger passes, the moves of aliases, the card of a version."""
