"""`darkroom txt2img PROMPT`: pictures from a prompt."""

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
from darkroom.core.request import ImageRequest
from darkroom.core.sampler_table import SAMPLERS, SCHEDULERS
from darkroom.core.settings import Configured, Settings

NAMES = (
    f"Samplers: {', '.join(row.name for row in SAMPLERS)}.",
    f"Schedulers: {', '.join(row.name for row in SCHEDULERS)}.",
)


@click.command(cls=Grouped, short_help="Make pictures from a prompt.", epilog="\n\n".join(NAMES))
@click.argument("prompt")
@flags(ImageRequest, PLAIN_FLAGS)
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def txt2img(reply: Reply, /, prompt: str, output: str | None, **values: Any) -> None:
    """Make pictures from PROMPT and save them with their recipe inside.

    The path of each picture goes to standard output. Nothing is ever overwritten. Ctrl-C stops
    within a step and keeps the pictures that are finished.

    \b
    darkroom txt2img "a red apple on a blue background"
    darkroom txt2img "an orange cat" --count 4 --seed 7 --steps 30 -o cats/
    darkroom txt2img "a castle" --hires --hires-strength 0.5 --detail face
    """
    request = ImageRequest.parse({"prompt": prompt} | request_of(values), called=called())
    settings = Configured.load_here(given({name: values[name] for name in SETTING_FLAGS}))
    run(request, settings.values, output=output, reply=reply)
