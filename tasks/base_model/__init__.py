"""The base that every method starts from, and its tokenizer."""
