"""What a user sees when something goes wrong: one sentence with a cure, and an exit code.

0 done, 1 failed, 2 bad request.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from darkroom.core.errors import BadRequest, StudioError

DONE, FAILED, BAD_REQUEST = 0, 1, 2


@contextmanager
def sentences(*, as_json: bool = False) -> Iterator[None]:
    """Turn the errors of the block into a line on standard error and an exit code."""
    try:
        yield
    except StudioError as error:
        if as_json:
            fields = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
            click.echo(json.dumps(fields, ensure_ascii=False))
        click.echo(f"darkroom: {error.sentence()}", err=True)
        sys.exit(BAD_REQUEST if isinstance(error, BadRequest) else FAILED)
    except KeyboardInterrupt:
        click.echo("darkroom: stopped.", err=True)
        sys.exit(FAILED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away; there is nobody to tell
        sys.exit(FAILED)
