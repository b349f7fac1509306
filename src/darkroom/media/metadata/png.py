"""The texts of a PNG, before and behind its pixels, which are not decoded.

PNG specification, third edition, 11.3.3: tEXt, zTXt and iTXt; 11.3.4.6: eXIf.
"""

from collections.abc import Iterator

from darkroom.core.errors import BadFile
from darkroom.media.metadata.source import EXIF, HEADER, MAX_PIECES, XMP, Piece, Source

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP_KEY = "XML:com.adobe.xmp"


def pieces(source: Source) -> Iterator[Piece]:
    """Every text chunk, the EXIF data, and the first 8 bytes of the header: width and height."""
    source.skip(len(SIGNATURE))
    for _ in range(MAX_PIECES):
        head = source.take(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND":
            return
        if kind in _TEXTS:
            key, text = _text(source, kind, source.take(length))
            yield (XMP, text.encode()) if key == _XMP_KEY else (key, text)
        elif kind == b"eXIf":
            yield EXIF, source.take(length)
        elif kind == b"IHDR" and length == 13:
            yield HEADER, source.take(length)[:8]
        else:
            source.skip(length)
        source.skip(4)  # the check sum: a text that a human can read is worth more than it
    raise BadFile(f"{source.name} has too many chunks for a picture")


def _text(source: Source, kind: bytes, data: bytes) -> tuple[str, str]:
    name, _, rest = data.partition(b"\0")
    key = name.decode("latin-1")
    if kind == b"tEXt":
        return key, rest.decode("latin-1")
    if kind == b"zTXt":
        return key, source.unpack(rest[1:]).decode("latin-1")
    packed, body = rest[:1] == b"\1", rest[2:]
    _language, _, body = body.partition(b"\0")
    _translated, _, body = body.partition(b"\0")
    return key, (source.unpack(body) if packed else body).decode("utf-8", errors="replace")
