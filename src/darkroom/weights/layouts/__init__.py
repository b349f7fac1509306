"""Names of the same tensor in different files, as data."""
