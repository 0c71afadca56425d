"""The data gate: Great Expectations, its suites and its page."""
