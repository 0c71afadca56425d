"""A comparison of methods as files: what is gathered for it, and the page that shows it."""
