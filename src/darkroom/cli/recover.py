"""`darkroom recover`: pictures from latents whose process died."""

from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import JSON, OUTPUT, SETTING_FLAGS, flags, given, pass_reply
from darkroom.cli.running import work
from darkroom.core.settings import Configured, Settings
from darkroom.media.left_behind import left_behind


@click.command()
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def recover(reply: Reply, /, output: str | None, **values: Any) -> None:
    """Finish pictures that were sampled but never saved.

    A run that is killed while it decodes leaves the finished latent in the data folder; this
    makes the picture from it.
    """
    settings = Configured.load_here(given(values)).values
    if any(left_behind(settings.unfinished_dir)):
        work(lambda worker, **where: worker.recover(**where), settings, output=output, reply=reply)
    elif reply.as_json:
        reply.json({"images": [], "warnings": []})
    else:
        click.echo("Nothing to recover.", err=True)
