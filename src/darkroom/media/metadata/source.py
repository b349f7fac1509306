"""A file that gives out only so many bytes: what every reader of a container stands on.

Lengths in a file are claims. `take` reads no more than MAX_TEXT at once and MAX_TOTAL in all, and
raises EOFError where the file ends before its claim; a seek beyond the end costs nothing.
"""

import zlib
from typing import BinaryIO

from darkroom.core.errors import BadFile, TooLarge

MAX_TEXT = 16 << 20  # bytes, unpacked; a longer text is refused
MAX_TOTAL = 48 << 20  # bytes of all texts of one file
MAX_PIECES = 100_000  # chunks, segments, boxes or blocks of one file

_MOST_DEFLATED = 1032  # bytes that one byte of zlib's can become
_TOO_MUCH = f"more than {MAX_TOTAL >> 20} MiB of text"

Piece = tuple[str, str | bytes]  # a key and its text; EXIF, XMP and HEADER come as bytes
EXIF, XMP, HEADER, COMMENT = "exif", "xmp", "header", "comment"


class Source:
    """An open, seekable file with the name that messages call it by."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.passed_over: list[BadFile] = []  # what was wrong with the texts that were left out
        self._file = file
        self._taken = 0

    def take(self, length: int) -> bytes:
        """The next `length` bytes; EOFError when there are fewer, TooLarge when it is too much."""
        self.count(length)
        return self.peek(length)

    def peek(self, length: int) -> bytes:
        """`take` for the few bytes of a head, which count as nothing."""
        data = self._file.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def count(self, length: int) -> None:
        """Note that `length` more bytes are kept in memory; TooLarge when they shall not be."""
        if length > MAX_TEXT:
            raise self._refusal(f"a text of {length:,} bytes, which is too long")
        if length > MAX_TOTAL - self._taken:
            raise self._refusal(_TOO_MUCH)
        self._taken += length

    def skip(self, length: int) -> None:
        """Go `length` bytes on, unread."""
        self._file.seek(length, 1)

    def tell(self) -> int:
        """How many bytes from the start it stands."""
        return self._file.tell()

    def go(self, offset: int) -> None:
        """Stand at `offset`."""
        self._file.seek(offset)

    def at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on; EOFError when they are not there."""
        self.go(offset)
        return self.take(length)

    def unpack(self, data: bytes, *, gzip: bool = False) -> bytes:
        """What zlib or gzip `data` unpack to, never more than MAX_TEXT; else TooLarge or BadFile.

        The work of unpacking counts towards the total even where nothing comes of it.
        """
        room = min(MAX_TEXT, MAX_TOTAL - self._taken)
        if not room:  # for zlib, 0 would be no limit
            raise self._refusal(_TOO_MUCH)
        stream = zlib.decompressobj(31 if gzip else zlib.MAX_WBITS)
        try:
            text = stream.decompress(data, room)
        except zlib.error:
            self._taken += min(room, _MOST_DEFLATED * len(data))
            hint = "Copy or download the file again."
            raise BadFile(f"{self.name} holds a damaged text", hint=hint) from None
        self.count(len(text))
        if stream.unconsumed_tail:
            one = f"a text that unpacks to more than {MAX_TEXT >> 20} MiB"
            raise self._refusal(one if room == MAX_TEXT else _TOO_MUCH)
        return text

    def _refusal(self, what: str) -> TooLarge:
        hint = "No program writes so much about a picture: save it anew without this text."
        return TooLarge(f"{self.name} holds {what}", hint=hint)
