"""The error tree; the docstring is the map.

StudioError
├── BadRequest          the user can fix it (HTTP 422, exit code 2)
│   ├── UnknownName     no sampler, scheduler or model of that name; offers the nearest
│   └── BadFile         a file cannot be used: missing, empty, truncated, not what it claims
├── OutputError         the result cannot be written: folder read-only, disk full (exit code 1)
├── OutOfMemory         a smaller plan may work (HTTP 507, retried once with `plan.smaller()`)
├── NotFinite           NaN or infinity appeared (that step is retried once in higher precision)
├── DeviceError         the device failed or is not there
└── Cancelled           not a failure: the user stopped the job
"""

import difflib
from collections.abc import Iterable


class StudioError(Exception):
    """Base of every error a user can see; `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def sentence(self) -> str:
        """Message and hint on one line, as the command line prints them."""
        message = " ".join(str(self).split())
        return f"{message}. {self.hint}".rstrip() if self.hint else message


class BadRequest(StudioError):
    """The request cannot be carried out as written."""


class UnknownName(BadRequest):
    """Nothing of that name; the hint offers the nearest names."""

    def __init__(self, what: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        near = nearest(name, known)
        offer = f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        super().__init__(f"unknown {what} {shorten(name)!r}", hint=f"{offer} {hint}".strip())
        self.nearest = near


class BadFile(BadRequest):
    """A file cannot be used; the message says what it is instead."""


class OutputError(StudioError):
    """The result cannot be written."""


class OutOfMemory(StudioError):
    """The device ran out of memory."""


class NotFinite(StudioError):
    """A NaN or infinity appeared and higher precision did not cure it."""


class DeviceError(StudioError):
    """The device failed, or is not there."""


class Cancelled(StudioError):
    """The user stopped the job."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of the `known` names most like `name`, best first, whatever their case."""
    folded = {k.casefold(): k for k in known}
    return [folded[f] for f in difflib.get_close_matches(name.casefold(), folded, count, 0.5)]


def shorten(text: str, length: int = 60) -> str:
    """`text` cut to `length` characters, so that a hostile value cannot flood a message."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def from_event(data: dict[str, str]) -> StudioError:
    """The error that a `failed` event tells of."""
    kinds: dict[str, type[StudioError]] = {
        kind.__name__: kind
        for kind in (
            BadFile,
            BadRequest,
            OutputError,
            OutOfMemory,
            NotFinite,
            DeviceError,
            Cancelled,
        )
    }
    kind = BadRequest if data["error"] == UnknownName.__name__ else kinds.get(data["error"])
    return (kind or StudioError)(data["text"], hint=data["hint"])
