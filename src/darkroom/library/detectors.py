"""Whether what a request names of the models in `core.packaged` is installed; no torch.

The models that are files of a library are found by `library.named`.
"""

from collections.abc import Iterator

from darkroom.core.fields import Parsed
from darkroom.core.model import Kind
from darkroom.core.packaged import packaged
from darkroom.core.processing import CutoutRequest
from darkroom.core.request import ImageRequest


def check_installed(request: Parsed) -> None:
    """BadRequest with the command to install what the request needs and is not here."""
    for kind, name in _named(request):
        if (row := packaged(kind, name)) is not None:
            row.paths()


def _named(request: Parsed) -> Iterator[tuple[Kind, str]]:
    match request:
        case ImageRequest():
            yield from ((Kind.DETECTOR, block.detector) for block in request.detail)
        case CutoutRequest():
            yield Kind.SEGMENTER, request.model
