"""`darkroom bench`: this machine, side by side with plain diffusers on the same weights."""

from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import DEVICE_FLAGS, JSON, flags, given, pass_reply
from darkroom.core.settings import Configured, Settings
from darkroom.library.models import Library


@click.command()
@click.option(
    "--model", default="starter", metavar="NAME", help="Model to run.  [default: starter]"
)
@click.option("--steps", default=20, metavar="N", help="Denoising steps.  [default: 20]")
@click.option("--size", type=int, metavar="PX", help="Side of the picture.  [default: the model's]")
@click.option("--rounds", default=5, metavar="N", help="Pairs of runs.  [default: 5]")
@JSON
@flags(Settings, DEVICE_FLAGS)
@pass_reply
def bench(
    reply: Reply, /, *, model: str, steps: int, size: int | None, rounds: int, **values: Any
) -> None:
    """Run txt2img in turns with a plain diffusers pipeline on the same weights.

    Prints how many times as fast ours is on this machine's device, and how far the results are
    apart. Machines are noisy: only the ratio of runs beside each other counts.
    """
    settings = Configured.load_here(given(values)).values
    card = Library.of(settings).find(model)
    from darkroom.jobs.benchmark import run_rounds  # imports torch

    fields = given({"steps": steps, "width": size, "height": size})
    for result in run_rounds(card, fields, rounds=max(1, rounds), settings=settings):
        last = result.rounds[-1]
        if not reply.as_json:
            click.echo(f"  ours {last.ours:6.2f} s   diffusers {last.diffusers:6.2f} s", err=True)
    if reply.as_json:
        reply.json(result.record())
        return
    pairs = f"{len(result.rounds)} pair{'s' if len(result.rounds) > 1 else ''}"
    click.echo(
        f"ours is {result.ratio:.2f} times as fast as diffusers on {result.device} (median of"
        f" {pairs});\nlatents agree to {result.latent_error:.1e} of their greatest value, pixels"
        f" to {result.pixel_error} of 255"
    )
