"""Which model may serve: the gate that a challenger passes, and what may stop it."""
