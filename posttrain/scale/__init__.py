"""What larger models take on more GPUs, on paper: memory of each, bytes of a weight sync, sampling against training."""
