"""`img2img`, `inpaint` and `outpaint`: pictures that begin with a picture."""

from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import (
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
from darkroom.core.request import ImageRequest
from darkroom.core.settings import Configured, Settings

SIDES = frozenset({"left", "right", "up", "down"})
PICTURE = ("init",)  # what the argument PICTURE says, and no flag


@click.command(cls=Grouped)
@click.argument("picture")
@click.argument("prompt")
@flags(ImageRequest, ("init", "loopback", *PLAIN_FLAGS), but=PICTURE)
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def img2img(reply: Reply, /, picture: str, prompt: str, **values: Any) -> None:
    """Make pictures from PICTURE and PROMPT.

    How far the result may leave the picture is --strength. Without --width and --height it has the
    shape of the picture, at a size that suits the model.

    \b
    darkroom img2img photo.jpg "a watercolour of a harbour" --strength 0.6
    darkroom img2img photo.jpg "a watercolour" --loops 4 --final-strength 0.3
    """
    _run(reply, picture, prompt, values=values)


@click.command(cls=Grouped)
@click.argument("picture")
@click.argument("prompt")
@flags(ImageRequest, ("init", "mask", *PLAIN_FLAGS), but=PICTURE)
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def inpaint(reply: Reply, /, picture: str, prompt: str, **values: Any) -> None:
    """Paint a part of PICTURE anew, as PROMPT says.

    The part is what is white in --mask, what a --sketch painted over, or what is transparent in
    the picture itself. Outside the mask and its blur all stays as it is to the last bit.

    \b
    darkroom inpaint photo.png "a cat in a striped shirt" --mask shirt.png
    darkroom inpaint photo.png "a small red boat" --mask spot.png --mask-area masked
    """
    _run(reply, picture, prompt, values=values, needs="mask")


@click.command(cls=Grouped)
@click.argument("picture")
@click.argument("prompt")
@flags(ImageRequest, ("outpaint", "init", *PLAIN_FLAGS), but=PICTURE)
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def outpaint(reply: Reply, /, picture: str, prompt: str, **values: Any) -> None:
    """Continue PICTURE beyond its borders, as PROMPT says.

    The picture itself stays as it is. Say with --left, --right, --up and --down how many pixels
    are added where.

    \b
    darkroom outpaint photo.png "a beach under a blue sky" --left 128 --right 128
    """
    _run(reply, picture, prompt, values=values, needs="outpaint")


def _run(
    reply: Reply, picture: str, prompt: str, *, values: dict[str, Any], needs: str = ""
) -> None:
    """Run the request that the arguments and flags describe; it has the block `needs`."""
    output = values.pop("output")
    fields = request_of(values)
    if needs:
        fields.setdefault(needs, {})
    if needs == "outpaint" and not SIDES.intersection(fields[needs]):
        told = "it is not said where the picture goes on"
        raise BadRequest(told, hint="Say by how many pixels at which side: --left 64.")
    fields["init"] = {"image": picture, **fields.get("init", {})}
    request = ImageRequest.parse({"prompt": prompt, **fields}, called=called())
    settings = Configured.load_here(given({name: values[name] for name in SETTING_FLAGS}))
    run(request, settings.values, output=output, reply=reply)
