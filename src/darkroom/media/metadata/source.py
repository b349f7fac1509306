"""A file that gives out only so many bytes: what every reader of a container stands on.

Lengths in a file are claims. `take` reads no more than MAX_TEXT at once and MAX_TOTAL in all, and
raises EOFError where the file ends before its claim; a seek beyond the end costs nothing.
"""

import zlib
from typing import BinaryIO

from darkroom.core.errors import BadFile

MAX_TEXT = 16 << 20  # bytes, unpacked; a longer text is refused
MAX_TOTAL = 48 << 20  # bytes of all texts of one file
MAX_PIECES = 100_000  # chunks, segments, boxes or blocks of one file

Piece = tuple[str, str | bytes]  # a key and its text; EXIF, XMP and HEADER come as bytes
EXIF, XMP, HEADER, COMMENT = "exif", "xmp", "header", "comment"


class Source:
    """An open, seekable file with the name that messages call it by."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        self._taken = 0

    def take(self, length: int) -> bytes:
        """The next `length` bytes; EOFError when there are fewer, BadFile when it is too much."""
        self.count(length)
        data = self._file.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def count(self, length: int) -> None:
        """Note that `length` more bytes are kept in memory."""
        self._taken += length
        if length > MAX_TEXT:
            raise BadFile(f"{self.name} holds a text of {length:,} bytes, which is too long")
        if self._taken > MAX_TOTAL:
            raise BadFile(f"{self.name} holds more than {MAX_TOTAL >> 20} MiB of text")

    def skip(self, length: int) -> None:
        """Go `length` bytes on, unread."""
        self._file.seek(length, 1)

    def at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on; EOFError when they are not there."""
        self._file.seek(offset)
        return self.take(length)

    def unpack(self, data: bytes, *, gzip: bool = False) -> bytes:
        """What zlib or gzip `data` unpack to; never more than MAX_TEXT."""
        stream = zlib.decompressobj(31 if gzip else zlib.MAX_WBITS)
        try:
            text = stream.decompress(data, MAX_TEXT)
        except zlib.error:
            raise BadFile(f"{self.name} holds a damaged text") from None
        if stream.unconsumed_tail:
            limit = f"{MAX_TEXT >> 20} MiB"
            raise BadFile(f"{self.name} holds a text that unpacks to more than {limit}")
        self.count(len(text))
        return text
