"""`darkroom txt2img PROMPT`: pictures from a prompt."""

import json
from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import sentences
from darkroom.cli.options import flags, given
from darkroom.cli.running import run
from darkroom.core.request import ImageRequest
from darkroom.core.settings import Configured, Settings

REQUEST_FLAGS = [name for name in ImageRequest.model_fields if name not in ("kind", "prompt")]
SETTING_FLAGS = ("device", "dtype", "threads", "models_dirs", "data_dir", "preview_seconds")


@click.command(short_help="Make pictures from a prompt.")
@click.argument("prompt")
@flags(ImageRequest, REQUEST_FLAGS)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A file name that ends in .png, or a folder.  [default: outputs/<date>/]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of paths.")
@flags(Settings, SETTING_FLAGS)
def txt2img(prompt: str, output: Path | None, as_json: bool, **values: Any) -> None:
    """Make pictures from PROMPT and save them with their recipe inside.

    The path of each picture goes to standard output. Nothing is ever overwritten. Ctrl-C stops
    within a step and keeps the pictures that are finished.

    \b
    darkroom txt2img "a red apple on a blue background"
    darkroom txt2img "two cats" --count 4 --seed 7 --steps 30 -o cats/
    """
    with sentences(as_json=as_json):
        request = ImageRequest.parse(
            {"prompt": prompt} | given({name: values[name] for name in REQUEST_FLAGS})
        )
        settings = Configured.load_here(given({name: values[name] for name in SETTING_FLAGS}))
        saved = run(request, settings, output=output, quiet=as_json)
        if as_json:
            click.echo(json.dumps({"images": saved}, ensure_ascii=False))
