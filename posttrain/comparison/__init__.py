"""A comparison of methods: per-question results of every seed on the way in, one documented record with verdicts on the way out."""
