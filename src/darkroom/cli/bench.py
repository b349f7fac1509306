"""`darkroom bench`: this machine, side by side with plain diffusers on the same weights."""

import json
from typing import Any

import click

from darkroom.cli.boundary import sentences
from darkroom.cli.models import library
from darkroom.cli.options import flags, given
from darkroom.core.settings import Settings


@click.command()
@click.option(
    "--model", default="starter", metavar="NAME", help="Model to run.  [default: starter]"
)
@click.option("--steps", default=20, metavar="N", help="Denoising steps.  [default: 20]")
@click.option("--size", type=int, metavar="PX", help="Side of the picture.  [default: the model's]")
@click.option("--rounds", default=5, metavar="N", help="Pairs of runs.  [default: 5]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@flags(Settings, ("threads", "models_dirs", "data_dir"))
def bench(
    *, model: str, steps: int, size: int | None, rounds: int, as_json: bool, **values: Any
) -> None:
    """Run txt2img in turns with a plain diffusers pipeline on the same weights.

    Prints how many times as fast ours is, and how far the results are apart. Machines are noisy:
    only the ratio of runs beside each other counts.
    """
    with sentences(as_json=as_json):
        card = library({name: values[name] for name in ("models_dirs", "data_dir")}).find(model)
        from darkroom.jobs.benchmark import run_rounds  # imports torch

        threads = int(values["threads"] or 0)
        fields = given({"steps": steps, "width": size, "height": size, "model": model})
        for result in run_rounds(card, fields, rounds=max(1, rounds), threads=threads):
            last = result.rounds[-1]
            if not as_json:
                click.echo(
                    f"  ours {last.ours:6.2f} s   diffusers {last.diffusers:6.2f} s", err=True
                )
        if as_json:
            click.echo(json.dumps(result.record()))
            return
        click.echo(
            f"ours is {result.ratio:.2f} times as fast as diffusers (median of"
            f" {len(result.rounds)} pairs);\nlatents agree to {result.latent_error:.1e} of their"
            f" greatest value, pixels to {result.pixel_error} of 255"
        )
