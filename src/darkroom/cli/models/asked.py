"""What every verb of `darkroom models` shares: the flags that say where models are.

They may stand before the verb or after it; what stands after it counts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.models.words import KIND_CHOICE, kind_of
from darkroom.cli.options import JSON, MODEL_FLAGS, Command, flags, given, pass_reply
from darkroom.core.settings import Configured, Settings
from darkroom.library.listing import Wanted, family_of
from darkroom.library.models import Library

FLAGS = flags(Settings, MODEL_FLAGS)
PAGE = 50  # models, where --page is given without --limit
COUNT = click.IntRange(min=1)
_KEY = "darkroom.models"


def note(context: click.Context, values: Mapping[str, Any]) -> None:
    """Keep the flags that stood before the verb."""
    context.meta[_KEY] = given(values)


def with_settings(command: Callable[..., None]) -> Command:
    """A decorator for a verb: its parameters are the reply, the settings, and its own."""

    @JSON
    @FLAGS
    @pass_reply
    @wraps(command)
    def verb(reply: Reply, /, **values: Any) -> None:
        here = {name: values.pop(name, None) for name in MODEL_FLAGS}
        asked = click.get_current_context().meta.get(_KEY, {}) | given(here)
        command(reply, Configured.load_here(asked).values, **values)

    return verb


@dataclass(frozen=True, slots=True)
class View:
    """The part of a listing that was asked for."""

    wanted: Wanted
    first: int  # number of the first model, from 0
    most: int | None


def with_view(command: Callable[..., None]) -> Command:
    """A decorator for a verb that lists models, under `with_library`: gives it a `view`."""

    @view_flags
    @wraps(command)
    def verb(*args: Any, **values: Any) -> None:
        kind, arch, limit, page = (values.pop(name) for name in ("kind", "arch", "limit", "page"))
        most = limit or (PAGE if page else None)
        wanted = Wanted(kind=kind_of(kind), arch=family_of(arch) if arch else "")
        command(*args, view=View(wanted, ((page or 1) - 1) * (most or 0), most), **values)

    return verb


def view_flags(command: Command) -> Command:
    """A decorator that adds the flags that say which models are listed."""
    for option in (
        click.option("--page", type=COUNT, help="Show the page of that number.  [default: 1]"),
        click.option("--limit", type=COUNT, help="Show so many at most."),
        click.option("--arch", metavar="TEXT", help="Only of this family: SD1, SD2, SDXL …"),
        click.option("--kind", type=KIND_CHOICE, help="Only models of this kind."),
    ):
        command = option(command)
    return command


def list_flags(command: Command) -> Command:
    """A decorator that adds the flags that `list` has alone."""
    for option in (
        click.option(
            "--hash", "hashed", is_flag=True, help="Hash the files that never were, first."
        ),
        click.option("--problems", is_flag=True, help="Only models with something against them."),
    ):
        command = option(command)
    return command


def with_library(command: Callable[..., None]) -> Command:
    """The same with a library instead of the settings."""

    @with_settings
    @wraps(command)
    def verb(reply: Reply, settings: Settings, /, **values: Any) -> None:
        command(reply, Library.of(settings), **values)

    return verb
