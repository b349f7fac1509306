"""The error tree; the docstring is the map.

StudioError
├── BadRequest          the user can fix it (HTTP 422, exit code 2)
│   ├── UnknownName     no sampler, scheduler or model of that name; offers the nearest
│   └── BadFile         a file cannot be used: missing, empty, truncated, not what it claims
│       └── TooLarge    or it holds more than anybody would write there
├── NoMetadata          a picture says nothing about how it was made (exit code 1)
├── DownloadError       a file cannot be fetched: no connection, refused, wrong hash (exit code 1)
├── OutputError         the result cannot be written: folder read-only, disk full (exit code 1)
├── OutOfMemory         a smaller plan may work (HTTP 507, retried once with `plan.smaller()`)
├── NotFinite           NaN or infinity appeared (that step is retried once in higher precision)
├── DeviceError         the device failed or is not there
└── Cancelled           not a failure: the user stopped the job
"""

import difflib
import re
from collections.abc import Iterable
from typing import Self

LEAST_START = 3  # letters by which a name is suggested that begins with them


class StudioError(Exception):
    """Base of every error a user can see; `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @classmethod
    def told(cls, text: str, *, hint: str = "") -> Self:
        """The error again from its own words, as an event carries them."""
        return cls(text, hint=hint)

    def sentence(self) -> str:
        """Message and hint on one line, as the command line prints them."""
        message = " ".join(str(self).split())
        return printable(f"{message}. {self.hint}" if self.hint else message)


class BadRequest(StudioError):
    """The request cannot be carried out as written."""


class UnknownName(BadRequest):
    """Nothing of that name; the hint offers the nearest names."""

    def __init__(self, what: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        near = suggested(name, known)
        offer = f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        super().__init__(f"unknown {what} {shorten(name)!r}", hint=f"{offer} {hint}".strip())
        self.nearest = near

    @classmethod
    def told(cls, text: str, *, hint: str = "") -> Self:
        """The error again; which names it offered stands in its hint only."""
        error = cls("name", "", (), hint=hint)
        error.args = (text,)
        return error


class BadFile(BadRequest):
    """A file cannot be used; the message says what it is instead."""


class TooLarge(BadFile):
    """A file holds more than anybody would write there; it is not read any further."""


class NoMetadata(StudioError):
    """A picture says nothing about how it was made."""


class DownloadError(StudioError):
    """A file cannot be fetched from the network."""


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


class DarkroomWarning(UserWarning):
    """What the command line shows as a note, where Darkroom is used as a library."""


def nearest(name: str, known: Iterable[str], count: int = 3, *, least: float = 0.5) -> list[str]:
    """Up to `count` of the `known` names most like `name`, best first, whatever their case.

    `least` is how alike they must be, from 0 to 1.
    """
    folded = {k.casefold(): k for k in known}
    return [folded[f] for f in difflib.get_close_matches(name.casefold(), folded, count, least)]


def suggested(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of the `known` names that `name` may be meant for, whatever folders they have.

    First those that begin with it, then the nearest, by the whole name or by its last part.
    """
    names = list(known)
    folded = name.casefold()
    parts = {k: (k.casefold(), k.casefold().rpartition("/")[2]) for k in names}
    begun = [k for k in names if len(name) >= LEAST_START and _begins(parts[k], folded)]
    alike = {part: k for k in reversed(names) for part in parts[k]}
    found = [alike[part] for part in nearest(folded, alike, 2 * count)]
    unlike = {_plain(k): k for k in reversed((*sorted(begun, key=len)[:count], *found))}
    return list(reversed(unlike.values()))[:count]


def about(what: str, text: str) -> str:
    """`text` with `what` it is about in front, but where it says that itself."""
    return text if what in text else f"{what}: {text}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold())


def _begins(parts: Iterable[str], start: str) -> bool:
    return any(part.startswith(start) for part in parts)


def shorten(text: str, length: int = 60) -> str:
    """`text` cut to `length` characters, so that a hostile value cannot flood a message."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


# What a terminal would obey, what breaks a line or turns the reading order around, and the bytes
# of file names that are no text. Joiners and marks that scripts and emoji need stay.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` from a stranger's file, safe to show: control characters become escapes."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def from_event(data: dict[str, str]) -> StudioError:
    """The error that a `failed` event tells of, of the type it was."""
    return _KINDS.get(data["error"], StudioError).told(data["text"], hint=data["hint"])


_KINDS: dict[str, type[StudioError]] = {
    kind.__name__: kind
    for kind in (
        BadRequest,
        UnknownName,
        BadFile,
        TooLarge,
        NoMetadata,
        DownloadError,
        OutputError,
        OutOfMemory,
        NotFinite,
        DeviceError,
        Cancelled,
    )
}
