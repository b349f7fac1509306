"""The texts in EXIF data, read and written.

EXIF 2.32, 4.6: a TIFF header, a list of tags, and a second list that one of them points at. Only
the tags in which some program keeps a prompt are looked at. `UserComment` starts with 8 bytes that
name its encoding; A1111 writes UNICODE and UTF-16, big endian, and reads nothing else.
"""

import struct
from collections.abc import Callable, Iterator

from darkroom.media.metadata.source import XMP

TAGS = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x013B: "Artist",
    0x02BC: XMP,
    0x9286: "UserComment",
    0x927C: "MakerNote",
    0x9C9C: "XPComment",
}
_SUB_LIST = 0x8769
_TEXT_TYPES = (1, 2, 7)  # bytes, ASCII, undefined: one byte each
_MAX_TAGS = 1000  # of one list
_UNICODE = b"UNICODE\0"
_CHARSETS = (b"ASCII\0\0\0", b"\0" * 8)


def texts(read: Callable[[int, int], bytes]) -> Iterator[tuple[str, str | bytes]]:
    """Name and text of every tag in TAGS; `read(offset, length)` gives bytes or raises EOFError.

    A list is read once, so that lists which point at each other end.
    """
    order = "<" if read(0, 2) == b"II" else ">"
    lists = [struct.unpack(order + "I", read(4, 4))[0]]
    for place in lists:
        (count,) = struct.unpack(order + "H", read(place, 2))
        for k in range(min(count, _MAX_TAGS)):
            entry = read(place + 2 + 12 * k, 12)
            tag, kind, length, value = struct.unpack(order + "HHII", entry)
            if tag == _SUB_LIST and len(lists) == 1:
                lists.append(value)
            elif tag in TAGS and kind in _TEXT_TYPES:
                data = entry[8 : 8 + length] if length <= 4 else read(value, length)
                yield TAGS[tag], data if tag == 0x02BC else _decode(tag, data, order)


def of_bytes(data: bytes) -> Iterator[tuple[str, str | bytes]]:
    """`texts` of EXIF data in memory."""

    def read(offset: int, length: int) -> bytes:
        if offset + length > len(data):
            raise EOFError
        return data[offset : offset + length]

    return texts(read)


def user_comment(text: str) -> bytes:
    """EXIF data whose only content is `text`, as A1111 writes and reads it."""
    comment = _UNICODE + text.encode("utf-16-be")
    main = struct.pack(">HHHIII", 1, _SUB_LIST, 4, 1, 26, 0)
    sub = struct.pack(">HHHIII", 1, 0x9286, 7, len(comment), 44, 0)
    return b"MM\0*" + struct.pack(">I", 8) + main + sub + comment


def _decode(tag: int, data: bytes, order: str) -> str:
    if tag == 0x9C9C:
        return _utf16(data, "<")
    if data.startswith(_UNICODE):
        return _utf16(data[8:], order)
    if data[:8] in _CHARSETS:
        data = data[8:]
    try:
        return data.decode().strip("\0 ")
    except UnicodeDecodeError:
        return data.decode("latin-1").strip("\0 ")


def _utf16(data: bytes, order: str) -> str:
    """Programs disagree on the order of the bytes; spaces and digits, high byte 0, tell it."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace").strip("\0 ")
    high, low = data[::2].count(0), data[1::2].count(0)
    order = (">" if high > low else "<") if high != low else order
    charset = "utf-16-be" if order == ">" else "utf-16-le"
    return data.decode(charset, errors="replace").strip("\0 ")
