"""Networks: loading, the tiny base and its tokenizer, log-probabilities."""
