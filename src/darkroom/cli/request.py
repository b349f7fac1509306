"""`darkroom run REQUEST.json`: any request, as the API takes it."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.options import (
    FRESH,
    JSON,
    OUTPUT,
    SETTING_FLAGS,
    Grouped,
    flags,
    given,
    pass_reply,
)
from darkroom.cli.running import run as run_request
from darkroom.core.errors import BadFile
from darkroom.core.series import parse_request
from darkroom.core.settings import Configured, Settings

MOST_BYTES = 64 << 20  # of a request


@click.command(cls=Grouped)
@click.argument("file", metavar="REQUEST.json", type=click.Path(path_type=Path, allow_dash=True))
@FRESH
@OUTPUT
@JSON
@flags(Settings, SETTING_FLAGS)
@pass_reply
def run(reply: Reply, /, file: Path, *, output: str | None, fresh: bool, **values: Any) -> None:
    """Run the request in the file REQUEST.json, or in standard input where it is -.

    Its `kind` says what is asked for: image, upscale, cutout, caption, grid or batch; without one
    it is for pictures. The fields are those of the flags, the blocks nested.

    \b
    echo '{"prompt": "a castle", "hires": {"scale": 1.5}}' | darkroom run -
    """
    request = parse_request(_document(file))
    settings = Configured.load_here(given(values)).values
    run_request(request, settings, output=output, reply=reply, fresh=fresh)


def _document(path: Path) -> object:
    """The JSON in the file; BadFile says what is wrong with it."""
    from darkroom.media.metadata.carried import opened

    if str(path) == "-":
        name, raw = "standard input", sys.stdin.buffer.read(MOST_BYTES + 1)
    else:
        with opened(path) as file:
            name, raw = str(path), file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise BadFile(f"{name} is longer than any request", hint="Split it into several.")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        where = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadFile(
            f"{name} is not JSON{where}", hint='Write {"prompt": "a red apple"}.'
        ) from None
