"""The texts of a PNG, before and behind its pixels, which are not decoded.

PNG specification, third edition, 11.3.3: tEXt, zTXt and iTXt; 11.3.4.6: eXIf.
"""

from collections.abc import Iterator

from darkroom.core.errors import BadFile, TooLarge
from darkroom.media.metadata.source import (
    EXIF,
    HEADER,
    MAX_PIECES,
    XMP,
    Piece,
    Source,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP_KEY = "XML:com.adobe.xmp"
_MAX_KEY = 79  # bytes
_WANTED = ("darkroom", "parameters")  # that these are too long is told; of other texts, passed over
_UTF8 = b"\xef\xbb\xbf"


def pieces(source: Source) -> Iterator[Piece]:
    """Every text chunk, the EXIF data, and the first 8 bytes of the header: width and height."""
    source.skip(len(SIGNATURE))
    for _ in range(MAX_PIECES):
        head = source.peek(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND":
            return
        if kind in _TEXTS:
            yield from _piece(source, kind, length)
        elif kind == b"eXIf":
            yield EXIF, source.take(length)
        elif kind == b"IHDR" and length == 13:
            yield HEADER, source.take(length)[:8]
        else:
            source.skip(length)
        source.skip(4)  # the check sum: a text that a human can read is worth more than it
    hint = "Open it in an editor of pictures and save it anew."
    raise BadFile(f"{source.name} has too many chunks for a picture", hint=hint)


def _piece(source: Source, kind: bytes, length: int) -> Iterator[Piece]:
    """The text of one chunk; nothing where it is damaged, or is too long and not wanted."""
    end = source.tell() + length
    head = source.peek(min(length, _MAX_KEY + 1))
    key = head.partition(b"\0")[0].decode("latin-1")
    try:
        data = head + source.take(length - len(head))
        text = _text(source, kind, data.partition(b"\0")[2])
        yield (XMP, text.encode()) if key == _XMP_KEY else (key, text)
    except BadFile as error:
        if isinstance(error, TooLarge) and key in _WANTED:
            raise
        source.passed_over.append(error)
        source.go(end)


def _text(source: Source, kind: bytes, rest: bytes) -> str:
    """What stands behind the key of a chunk."""
    if kind == b"tEXt":
        return rest.decode("utf-8" if rest.startswith(_UTF8) else "latin-1", errors="replace")
    if kind == b"zTXt":
        return source.unpack(rest[1:]).decode("latin-1")
    packed, body = rest[:1] == b"\1", rest[2:]
    _language, _, body = body.partition(b"\0")
    _translated, _, body = body.partition(b"\0")
    return (source.unpack(body) if packed else body).decode("utf-8", errors="replace")
