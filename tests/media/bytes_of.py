"""Files put together by hand, so that what is read is not what the same code wrote."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"


def chunk(kind: bytes, data: bytes, *, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return struct.pack(">I", size) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0))
    return SIGNATURE + header + b"".join(chunks) + chunk(b"IEND", b"")


def text(key: str, value: str) -> bytes:
    return chunk(b"tEXt", key.encode() + b"\0" + value.encode("latin-1"))


def itxt(key: str, value: bytes, *, packed: bool = True) -> bytes:
    body = zlib.compress(value) if packed else value
    return chunk(b"iTXt", key.encode() + (b"\0\1\0\0\0" if packed else b"\0\0\0\0\0") + body)


def exif(tags: dict[int, bytes], *, order: str = "<", sub: bool = True) -> bytes:
    """A TIFF with `tags` in its second list, or in the first."""

    def ifd(place: int, entries: list[tuple[int, int, bytes]]) -> bytes:
        body, rest = struct.pack(order + "H", len(entries)), b""
        there = place + 2 + 12 * len(entries) + 4
        for tag, kind, data in entries:
            if kind == 4:
                value = data
            elif len(data) <= 4:
                value = data.ljust(4, b"\0")
            else:
                value, rest = struct.pack(order + "I", there + len(rest)), rest + data
            body += struct.pack(order + "HHI", tag, kind, 1 if kind == 4 else len(data)) + value
        return body + struct.pack(order + "I", 0) + rest

    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    listed = [(tag, 7, data) for tag, data in tags.items()]
    if not sub:
        return head + ifd(8, listed)
    return head + ifd(8, [(0x8769, 4, struct.pack(order + "I", 26))]) + ifd(26, listed)


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    body = b"".join(struct.pack(">BBH", 0xFF, kind, len(d) + 2) + d for kind, d in segments)
    return b"\xff\xd8" + body + b"\xff\xda\0\2\xff\xd9"


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(k + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for k, d in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def gif(comment: bytes) -> bytes:
    blocks = b"".join(
        bytes([len(part)]) + part
        for part in (comment[k : k + 255] for k in range(0, len(comment), 255))
    )
    return b"GIF89a\1\0\1\0\0\0\0\x21\xfe" + blocks + b"\0\x3b"


def unicode(value: str, charset: str) -> bytes:
    return b"UNICODE\0" + value.encode(charset)
