"""spandrel, an extra that builds the networks that we do not.

It is given tensors that our own reader took out of a file, never the file.
"""

from importlib import import_module
from typing import Any

from darkroom.core.errors import BadRequest
from darkroom.core.packaged import install


def spandrel(why: str, *, extra: str) -> Any:
    """The package, with the networks of its second one where that is installed.

    BadRequest with the command to install `extra` where it cannot be imported; `why` is what it is
    for, as in "GFPGANv1.4 mends faces".
    """
    try:
        package = import_module("spandrel")
    except (ImportError, RuntimeError) as error:  # torchvision beside another torch is the latter
        raise BadRequest(
            f"{why} with spandrel, which cannot be imported here ({error})",
            hint=f"Install it: {install(extra)}",
        ) from error
    try:
        more = import_module("spandrel_extra_arches")
    except ImportError:
        return package
    more.install(ignore_duplicates=True)
    return package
