"""Labels of people, simulated annotators and judges: their kinds, agreement and biases."""
