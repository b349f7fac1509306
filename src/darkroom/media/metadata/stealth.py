"""Metadata in the lowest bits of the pixels, where they survive what strips everything else.

NovelAI's form, which A1111's and Forge's extensions share. The bits go down the columns, from the
left: 120 of a signature, 32 of the length in bits, big endian, then the text as UTF-8. They lie in
the alpha channel (`stealth_pnginfo`, and `stealth_pngcomp` for a gzipped text) or in red, green and
blue of each pixel in turn (`stealth_rgbinfo`, `stealth_rgbcomp`). Only reading this needs pixels.
"""

import gzip
import io
import struct
import zlib
from typing import BinaryIO

from PIL import Image, ImageChops

from darkroom.core.errors import BadFile, BadRequest
from darkroom.media.metadata.source import MAX_TEXT, Source

MAX_PIXELS = 36_000_000  # of a picture that is decoded to look for a text
_SIGNATURES = {  # mode of the pixels: plain, gzipped
    "A": (b"stealth_pnginfo", b"stealth_pngcomp"),
    "RGB": (b"stealth_rgbinfo", b"stealth_rgbcomp"),
}
_HEAD = 15 + 4  # bytes of signature and length
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, OverflowError, struct.error, zlib.error,
    MemoryError, Image.DecompressionBombError,
)  # fmt: skip

_ONES = bytes(0x30 | value & 1 for value in range(256))  # a byte to its lowest bit, as a digit


def hide(image: Image.Image, text: str) -> Image.Image:
    """`image` with `text`, gzipped, in its alpha channel; BadRequest when it has no room.

    What is transparent in it stays so, to the lowest bit.
    """
    packed = gzip.compress(text.encode(), mtime=0)
    data = _SIGNATURES["A"][1] + struct.pack(">I", 8 * len(packed)) + packed
    room = image.width * image.height
    if 8 * len(data) > room:
        raise BadRequest(
            f"the picture has room for {room // 8} bytes of hidden metadata, not {len(data)}",
            hint="Make it larger, or leave them out.",
        )
    digits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}".encode()
    bits = digits.translate(bytes.maketrans(b"01", b"\0\1")).ljust(room, b"\1")
    columns = Image.frombytes("L", image.size[::-1], bits).transpose(Image.Transpose.TRANSPOSE)
    hidden = image.convert("RGBA")
    opaque = hidden.getchannel("A").point(lambda value: value & 0xFE)
    hidden.putalpha(ImageChops.add(opaque, columns))
    return hidden


def find(file: BinaryIO, name: str) -> str | None:
    """The text hidden in the pixels of an open picture; None when there is none."""
    file.seek(0)
    try:
        with Image.open(file, formats=("PNG", "WEBP")) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            planes = [image.getchannel("A")] if image.mode in ("RGBA", "LA") else []
            planes += [image.convert("RGB")] if image.mode in ("RGB", "RGBA") else []
            texts = [_read(plane, name) for plane in planes]
    except _DAMAGED:
        return None
    return next((text for text in texts if text is not None), None)


def _read(plane: Image.Image, name: str) -> str | None:
    columns = plane.transpose(Image.Transpose.TRANSPOSE).tobytes()
    plain, packed = _SIGNATURES["RGB" if plane.mode == "RGB" else "A"]
    head = _packed(columns[: 8 * _HEAD])
    if head[:15] not in (plain, packed):
        return None
    length = int.from_bytes(head[15:], "big") // 8
    if length > min(MAX_TEXT, len(columns) // 8 - _HEAD):
        return None
    data = _packed(columns[8 * _HEAD : 8 * (_HEAD + length)])
    if head[:15] == packed:
        try:
            data = Source(io.BytesIO(), name).unpack(data, gzip=True)
        except BadFile:
            return None
    return data.decode("utf-8", errors="replace")


def _packed(pixels: bytes) -> bytes:
    """Bytes of the lowest bits of `pixels`, the first of each eight being the highest."""
    digits = pixels[: len(pixels) // 8 * 8].translate(_ONES)
    return int(digits or b"0", 2).to_bytes(len(digits) // 8, "big")
