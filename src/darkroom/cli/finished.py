"""`hires`, `detail`, `upscale` and `cutout`: what is done to a finished picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import (
    DEVICE_FLAGS,
    FRESH,
    IMAGE_FLAGS,
    JSON,
    OUTPUT,
    PLAIN_FLAGS,
    SETTING_FLAGS,
    Grouped,
    called,
    flags,
    given,
    pass_reply,
    request_of,
)
from darkroom.cli.running import run
from darkroom.core.errors import BadRequest
from darkroom.core.fields import EACH
from darkroom.core.processing import CutoutRequest, UpscaleRequest
from darkroom.core.request import ImageRequest
from darkroom.core.series import KINDS, BatchRequest, parse_request
from darkroom.core.settings import Configured, Settings

AGAIN_FLAGS = ("prompt", *PLAIN_FLAGS)
# Of what the picture says: what it had been made with and what is not done once more.
NOT_AGAIN = ("init", "mask", "outpaint", "loopback", "hires", "detail", "restore")
NOT_AGAIN_SIZE = (*NOT_AGAIN, "width", "height", "count")
FINISH_FLAGS = (*IMAGE_FLAGS, *DEVICE_FLAGS)
UPSCALE_FLAGS = tuple(name for name in UpscaleRequest.model_fields if name not in ("kind", "image"))
CUTOUT_FLAGS = tuple(name for name in CutoutRequest.model_fields if name not in ("kind", "image"))


@click.command(cls=Grouped)
@click.argument("picture", type=click.Path(path_type=Path))
@flags(ImageRequest, AGAIN_FLAGS, but=("hires", "hires_first", "count", "width", "height"))
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def hires(reply: Reply, /, picture: Path, **values: Any) -> None:
    """Run the second pass of hires fix on the finished PICTURE.

    Prompt, model and all else are read from the picture, whatever program made it; any of them can
    be given anew. A picture that says nothing about itself needs at least --prompt.

    \b
    darkroom hires apple.png --hires-scale 2 --hires-strength 0.5
    """
    asked = request_of(values)
    _again(reply, picture, asked, begin={"hires": {"first": str(picture)}}, values=values)


@click.command(cls=Grouped)
@click.argument("picture", type=click.Path(path_type=Path))
@flags(ImageRequest, AGAIN_FLAGS, but=("hires_first", "count", "width", "height"))
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def detail(reply: Reply, /, picture: Path, **values: Any) -> None:
    """Find faces and the like in the finished PICTURE, and paint each anew, large.

    What is looked for is --detail; faces, without it. Prompt, model and all else are read from the
    picture, whatever program made it.

    \b
    darkroom detail portrait.png
    darkroom detail group.png --detail face,strength=0.3 --detail hand
    """
    asked = request_of(values)
    asked.setdefault("detail", [{}])
    begin = {"init": {"image": str(picture), "strength": 0}}
    _again(reply, picture, asked, begin=begin, values=values)


@click.command(cls=Grouped)
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE…")
@flags(UpscaleRequest, UPSCALE_FLAGS)
@FRESH
@OUTPUT
@JSON
@flags(Settings, FINISH_FLAGS)
@pass_reply
def upscale(reply: Reply, /, pictures: tuple[str, ...], **values: Any) -> None:
    """Make each PICTURE larger.

    Several pictures, and folders, are worked off one after the other; what is done already is not
    done again.

    \b
    darkroom upscale apple.png --scale 4
    darkroom upscale holiday/ --width 3840 --upscaler 4x-UltraSharp -o large/
    darkroom upscale apple.png --paint --paint-prompt "a red apple, photo"
    """
    fields = {"kind": "upscale", **request_of(values, UpscaleRequest)}
    _finish(reply, pictures, fields, values=values)


@click.command(cls=Grouped)
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE…")
@flags(CutoutRequest, CUTOUT_FLAGS)
@FRESH
@OUTPUT
@JSON
@flags(Settings, FINISH_FLAGS)
@pass_reply
def cutout(reply: Reply, /, pictures: tuple[str, ...], **values: Any) -> None:
    """Take the background of each PICTURE away.

    \b
    darkroom cutout shoe.jpg
    darkroom cutout products/ --background white -o cut/
    """
    fields = {"kind": "cutout", **request_of(values, CutoutRequest)}
    _finish(reply, pictures, fields, values=values)


def _again(
    reply: Reply,
    picture: Path,
    asked: dict[str, Any],
    *,
    begin: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Any],
) -> None:
    """Run what the picture says about itself with other blocks; `begin` is where the picture is."""
    from darkroom.library.again import asked_again, merged
    from darkroom.library.models import Library
    from darkroom.media.metadata import drawn, find
    from darkroom.media.picture import picture_size

    picture_size(picture)  # a text could tell settings, but there would be nothing to work on
    settings = Configured.load_here(given({name: values[name] for name in SETTING_FLAGS})).values
    found = find(picture)
    found = None if found is None else drawn(found)
    if found is None and "prompt" not in asked:
        raise BadRequest(
            f"{picture} says nothing about how it was made", hint="Say what it shows: --prompt."
        )
    fields: Mapping[str, Any] = asked
    if found is not None:
        library = Library.of(settings, tell=reply.note)
        bare = found.without(NOT_AGAIN_SIZE)
        fields = asked_again(bare, asked=asked, settings=settings, library=library, say=reply.note)
    request = ImageRequest.parse(merged(fields, begin), called=called())
    run(request, settings, output=values["output"], reply=reply)


def _finish(
    reply: Reply, pictures: tuple[str, ...], fields: dict[str, Any], *, values: Mapping[str, Any]
) -> None:
    """Run the request for one picture, or for each of several."""
    settings = Configured.load_here(given({name: values[name] for name in FINISH_FLAGS})).values
    names = called(KINDS[fields["kind"]])
    if len(pictures) == 1 and not Path(pictures[0]).is_dir():
        request = parse_request(fields | {"image": pictures[0]}, called=names)
    else:
        base = parse_request(fields | {"image": EACH}, called=names)
        request = BatchRequest.parse({"base": base.model_dump(), "inputs": pictures})
    run(request, settings, output=values["output"], reply=reply, fresh=values["fresh"])
