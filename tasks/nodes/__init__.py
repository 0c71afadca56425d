"""Several machines that compute a stage together."""
