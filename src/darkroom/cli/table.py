"""A group of verbs as a table: a verb's module is imported when the verb is called, not before."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click
from click import UsageError

Rows = Mapping[str, tuple[str, str]]  # verb -> (module, help); "module:command" if named otherwise


class Table(click.Group):
    """Imports only the verb that was asked for, so that `--help` costs nothing."""

    def __init__(self, *args: Any, verbs: Rows, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of the table."""
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one verb."""
        if cmd_name not in self._verbs:
            near = get_close_matches(cmd_name, self._verbs, n=1)
            raise UsageError(
                f"there is no verb {cmd_name[:40]!r}"
                + (f"; did you mean {near[0]}?" if near else ""),
                ctx,
            )
        module, _, name = self._verbs[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name or cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in self._verbs.items()])
