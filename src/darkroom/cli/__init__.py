"""The command line: a table of verbs. Nothing here imports torch; work is done by the worker."""
