"""Where every verb runs: what goes wrong becomes one sentence with a cure, and an exit code.

0 done, 1 failed, 2 bad request. With `--json` the answer is one JSON value on standard output,
also when it is a failure.
"""

import errno
import io
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import click

from darkroom.core.errors import BadRequest, Cancelled, OutputError, StudioError, printable

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
DONE, FAILED, BAD_REQUEST = 0, 1, 2


@dataclass(slots=True)
class Reply:
    """What a verb has to say; `fields` fill as it goes, so that a failure loses none of them."""

    as_json: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    def json(self, value: object) -> None:
        """Print one JSON value; only ASCII, which every terminal and encoding can take."""
        click.echo(json.dumps(value))

    def note(self, text: str) -> None:
        """Tell the user something on standard error; with `--json` it is one of the warnings."""
        self.fields.setdefault("warnings", []).append(text)
        if not self.as_json:
            click.echo(f"Note: {printable(text)}", err=True)


class Verbs(click.Group):
    """A group of verbs with the boundary around all of them, and around the reading of flags."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the verb in the arguments and leave with an exit code, as click does."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # whatever it cannot encode is escaped
                stream.reconfigure(errors="backslashreplace")
        reply = Reply()
        super_main: Callable[..., Any] = super().main
        if not standalone_mode:
            return super_main(*args, standalone_mode=False, obj=reply, **extra)
        with boundary(reply):
            try:
                status = super_main(*args, standalone_mode=False, obj=reply, **extra)
            except click.UsageError:  # before the flags were read
                given = args[0] if args else extra.get("args")
                reply.as_json = "--json" in (sys.argv[1:] if given is None else given)
                raise
            if reply.as_json and reply.fields:
                reply.json(reply.fields)
        sys.exit(status or DONE)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; Ctrl-C is one of our errors."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Cancelled("stopped") from None


@contextmanager
def boundary(reply: Reply) -> Iterator[None]:
    """Turn whatever the block raises into a sentence on standard error and an exit code."""
    try:
        yield
    except StudioError as error:
        _fail(reply, error)
    except click.UsageError as error:
        _fail(reply, _usage(error))
    except (click.Abort, KeyboardInterrupt):
        _fail(reply, Cancelled("stopped"))
    except BrokenPipeError:
        _settle_output()  # the reader went away; there is nobody to tell
        sys.exit(FAILED)
    except Exception as error:  # noqa: BLE001 - the process boundary: nobody above could tell the user
        _fail(reply, _unforeseen(error))


# What other programs call some of our flags.
_ELSEWHERE = {
    "--denoising-strength": "--strength",
    "--denoise": "--strength",
    "--hr-scale": "--hires-scale",
    "--hr-upscaler": "--hires-upscaler",
    "--cfg": "--cfg-scale",
    "--guidance-scale": "--cfg-scale",
    "--batch-size": "--count",
    "--n-iter": "--count",
    "--negative": "--negative-prompt",
    "--checkpoint": "--model",
    "--mask-content": "--mask-fill",
    "--inpaint-area": "--mask-area",
}


def _usage(error: click.UsageError) -> BadRequest:
    place = error.ctx.command_path if error.ctx else "darkroom"
    text = error.format_message().strip().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        theirs = _ELSEWHERE.get(error.option_name.replace("_", "-"), "")
        params = error.ctx.command.params if error.ctx else ()
        here = any(theirs in option.opts for option in params)
        near = theirs if here else " or ".join((error.possibilities or [])[:3])
        text = f"no such option {error.option_name!r}" + (f"; did you mean {near}?" if near else "")
    if text.startswith("Got unexpected extra argument"):
        text += "; put a prompt of several words in quotes"
    return BadRequest(f"{text[:1].lower()}{text[1:]} (see {place} --help)")


def _fail(reply: Reply, error: StudioError) -> NoReturn:
    told = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
    with suppress(OSError, ValueError):  # nowhere to say it: the exit code remains
        if reply.as_json:
            reply.json(told | reply.fields)
    with suppress(OSError, ValueError):
        click.echo(f"darkroom: {error.sentence()}", err=True)
    _settle_output()
    sys.exit(BAD_REQUEST if isinstance(error, BadRequest) else FAILED)


def _unforeseen(error: Exception) -> StudioError:
    """Words for what no verb expected: output that cannot be written, or a mistake of ours."""
    # Files of ours that cannot be written are OutputErrors already, so this was a stream.
    if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
        return OutputError(f"standard output or error cannot be written: {error.strerror}")
    from darkroom.jobs.mistake import mistake

    return mistake(error, _log())


def _log() -> Path | None:
    from darkroom.core.settings import Configured

    with suppress(StudioError):
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.txt"
        return Configured.load_here().values.data_dir / "logs" / name
    return None


def _settle_output() -> None:
    """What cannot be written goes nowhere, instead of failing once more when Python ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
