"""A comparison of methods: per-question results of every seed come in, one documented record with verdicts goes out."""
