"""`darkroom VERB …`: the table of verbs. A verb's module is imported when it is called."""

import click

from darkroom import __version__
from darkroom.cli.boundary import Verbs
from darkroom.cli.table import Table

VERBS = {
    "txt2img": ("darkroom.cli.txt2img", "Make pictures from a prompt."),
    "img2img": ("darkroom.cli.img2img", "Make pictures from a picture and a prompt."),
    "inpaint": ("darkroom.cli.img2img:inpaint", "Paint a part of a picture anew."),
    "outpaint": ("darkroom.cli.img2img:outpaint", "Continue a picture beyond its borders."),
    "hires": ("darkroom.cli.finished", "Make a finished picture larger with a second pass."),
    "detail": ("darkroom.cli.finished", "Paint faces and the like in a picture anew, large."),
    "upscale": ("darkroom.cli.finished", "Make pictures larger."),
    "cutout": ("darkroom.cli.finished", "Take the background of pictures away."),
    "caption": ("darkroom.cli.caption", "Say in words what pictures show."),
    "compare": ("darkroom.cli.compare", "Make a page that shows pictures side by side."),
    "diff": ("darkroom.cli.diff", "Show what differs between two pictures."),
    "sheet": ("darkroom.cli.sheet", "Make contact sheets of a folder of pictures."),
    "grid": ("darkroom.cli.grid", "Make a grid that compares: steps, samplers, prompts, models."),
    "batch": ("darkroom.cli.batch", "Do the same with many pictures, or with a list."),
    "run": ("darkroom.cli.request", "Run a request that is written as JSON."),
    "redo": ("darkroom.cli.redo", "Make a picture again, as its file tells it."),
    "info": ("darkroom.cli.info", "Show how pictures were made, whatever program made them."),
    "recover": ("darkroom.cli.recover", "Finish pictures that were sampled but never saved."),
    "prompt": ("darkroom.cli.prompt", "Show what the grammar makes of a prompt."),
    "models": ("darkroom.cli.models", "List, show, search, check and fetch models."),
    "doctor": ("darkroom.cli.doctor", "Check this installation and say how to mend it."),
    "bench": ("darkroom.cli.bench", "Measure this machine, side by side with plain diffusers."),
}


class Main(Table, Verbs):
    """The table of verbs, with the boundary around it."""


@click.group(
    cls=Main,
    verbs=VERBS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "-V", "--version", prog_name="darkroom")
@click.pass_context
def main(context: click.Context) -> None:
    """Darkroom makes pictures with Stable Diffusion on your own machine.

    Start with:  darkroom txt2img "a red apple on a blue background"
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
