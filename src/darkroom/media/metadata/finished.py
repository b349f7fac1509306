"""The settings of what was done to a finished picture, by A1111's names for its extras."""

from collections.abc import Iterator

from darkroom.core.blocks import Restore
from darkroom.core.processing import CutoutRequest, UpscaleRequest
from darkroom.media.metadata.infotext_table import plain


def pairs(request: UpscaleRequest | CutoutRequest) -> Iterator[tuple[str, str]]:
    """Key and text of everything that has something to say."""
    match request:
        case UpscaleRequest():
            yield from _upscaled(request)
        case CutoutRequest():
            yield "Postprocess background", request.background or "transparent"
            yield "Postprocess background model", request.model


def _upscaled(request: UpscaleRequest) -> Iterator[tuple[str, str]]:
    if request.width or request.height:
        yield "Postprocess upscale to", f"{request.width or 0}x{request.height or 0}"
    else:
        yield "Postprocess upscale by", plain(request.scale)
    yield "Postprocess upscaler", request.upscaler
    if request.second is not None:
        yield "Postprocess upscaler 2", request.second
        yield "Postprocess upscaler 2 visibility", plain(request.second_visibility)
    if request.restore is not None:
        yield from _restored(request.restore)
    if request.paint is not None:
        yield "Postprocess denoising strength", plain(request.paint.strength)
        if request.paint.prompt:
            yield "Postprocess prompt", request.paint.prompt


def _restored(restore: Restore) -> Iterator[tuple[str, str]]:
    """A1111 has two such models, each with keys of its own."""
    if "codeformer" in restore.model.casefold():
        yield "CodeFormer visibility", plain(restore.visibility)
        yield "CodeFormer weight", plain(restore.fidelity)
    else:
        yield "GFPGAN visibility", plain(restore.visibility)
