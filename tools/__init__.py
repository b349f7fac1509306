"""Checks of the project itself: `./darkroom test` runs them all through `tools.check`."""
