"""`darkroom VERB …`: the table of verbs. A verb's module is imported when it is called."""

from difflib import get_close_matches
from importlib import import_module

import click
from click import UsageError

from darkroom import __version__
from darkroom.cli.boundary import Verbs

VERBS = {
    "txt2img": ("darkroom.cli.txt2img", "Make pictures from a prompt."),
    "redo": ("darkroom.cli.redo", "Make a picture again, as its file tells it."),
    "info": ("darkroom.cli.info", "Show how pictures were made, whatever program made them."),
    "recover": ("darkroom.cli.recover", "Finish pictures that were sampled but never saved."),
    "prompt": ("darkroom.cli.prompt", "Show what the grammar makes of a prompt."),
    "models": ("darkroom.cli.models", "List the models on this machine, or show one."),
    "doctor": ("darkroom.cli.doctor", "Check this installation and say how to mend it."),
    "bench": ("darkroom.cli.bench", "Measure this machine, side by side with plain diffusers."),
}


class Table(Verbs):
    """Imports only the verb that was asked for, so that `--help` costs nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one verb."""
        if cmd_name not in VERBS:
            near = get_close_matches(cmd_name, VERBS, n=1)
            raise UsageError(
                f"there is no verb {cmd_name[:40]!r}"
                + (f"; did you mean {near[0]}?" if near else "")
            )
        command: click.Command = getattr(import_module(VERBS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.group(
    cls=Table,
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
