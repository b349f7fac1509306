"""`darkroom grid PROMPT --x FIELD=VALUES …`: one picture again and again, one thing changed."""

from collections.abc import Callable
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import (
    FRESH,
    JSON,
    OUTPUT,
    PICTURE_BLOCKS,
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
from darkroom.core.errors import BadRequest, shorten
from darkroom.core.request import ImageRequest
from darkroom.core.series import GridRequest
from darkroom.core.settings import Configured, Settings

GRID_FLAGS = tuple(
    name for name in GridRequest.model_fields if name not in ("kind", "base", "x", "y", "z")
)


def _axis(_context: click.Context, option: click.Parameter, value: str | None) -> Any:
    """FIELD=VALUES as the request takes it; what stands before the first = is the field."""
    if value is None:
        return None
    field, sign, values = value.partition("=")
    if not sign or not field.strip():
        raise BadRequest(
            f"--{option.name} {shorten(value)!r} names no values",
            hint=f'Write --{option.name} "steps=10,20,30".',
        )
    return {"field": field.strip(), "values": values}


def axes(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags --x, --y and --z."""
    told = {"x": "from left to right", "y": "from top to bottom", "z": "from grid to grid"}
    for name in reversed(told):
        command = click.option(
            f"--{name}",
            name,
            metavar="FIELD=VALUES",
            callback=_axis,
            help=f"What changes {told[name]}: any flag of a picture with its values.",
        )(command)
    return command


@click.command(cls=Grouped)
@click.argument("prompt")
@axes
@FRESH
@flags(GridRequest, GRID_FLAGS)
@flags(ImageRequest, (*PICTURE_BLOCKS, *PLAIN_FLAGS))
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def grid(reply: Reply, /, prompt: str, *, output: str | None, fresh: bool, **values: Any) -> None:
    """Make a grid of pictures of PROMPT: what --x, --y and --z name changes, all else stays.

    An axis is any field of the request (steps, hires.strength, detail.0.blur), a name that A1111
    has for it ("CFG Scale"), "prompt" to look for the first value and put the others in its place,
    or lora:NAME. Values stand between commas; ranges are 1-10, 1-10 (+2), 0-1 [5].

    Every cell is a picture of its own with its own recipe; beside them lie grid.png and grid.html.
    The same command with the same -o makes only what is missing.

    \b
    darkroom grid "an orange cat" --x "steps=5-20 (+5)" --y "sampler=Euler a, DPM++ 2M" -o cats/
    darkroom grid "a red apple" --x "prompt=red, green, yellow" --seed 7 -o apples/
    darkroom grid "a castle|at night|in winter" --matrix -o castles/
    """
    asked = {name: values[name] for name in ("x", "y", "z") if values[name] is not None}
    asked |= given({name: values[name] for name in GRID_FLAGS})
    if not (asked.keys() & {"x", "y", "z"} or values["matrix"]):
        hint = 'Say what changes: --x "steps=10,20,30", or --matrix with parts between | signs.'
        raise BadRequest("nothing changes in this grid", hint=hint)
    base = {"prompt": prompt, **request_of(values)}
    request = GridRequest.parse({"base": base, **asked}, called=called())
    settings = Configured.load_here(given({name: values[name] for name in SETTING_FLAGS})).values
    run(request, settings, output=output, reply=reply, fresh=fresh)
