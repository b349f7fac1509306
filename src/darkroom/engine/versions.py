"""The versions that pixels depend on."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

import darkroom

PACKAGES = ("torch", "diffusers", "transformers")


@cache
def versions() -> dict[str, str]:
    """Name to version, ours first."""
    found = {"darkroom": darkroom.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a frozen build without metadata
            found[name] = "unknown"
    return found
