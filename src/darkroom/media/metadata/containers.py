"""EXIF, XMP and comments of JPEG, WebP, GIF, AVIF and TIFF files; no pixel is decoded.

JPEG: ITU T.81, annex B. WebP: RFC 9649, 2.7. GIF: the GIF89a specification, 24. AVIF, and HEIC with
it: ISO/IEC 14496-12 (boxes) and 23008-12 (items). An MP4 is made of the same boxes, so its reader
starts from `_boxes`.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from darkroom.core.errors import BadFile
from darkroom.media.metadata import png
from darkroom.media.metadata.source import COMMENT, EXIF, MAX_PIECES, XMP, Piece, Source

Reader = Callable[[Source], Iterator[Piece]]

_EXIF_HEAD = b"Exif\0\0"
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_MAX_META = 1 << 20  # bytes of an AVIF's list of items


def jpeg(source: Source) -> Iterator[Piece]:
    """The segments in front of the picture itself."""
    source.skip(2)
    for _ in range(MAX_PIECES):
        mark = source.take(2)
        while mark[1] == 0xFF:  # fill bytes
            mark = mark[1:] + source.take(1)
        if mark[0] != 0xFF or mark[1] in (0xD9, 0xDA):  # damaged; the end; the picture starts
            return
        if mark[1] == 0x01 or 0xD0 <= mark[1] <= 0xD7:  # without a length
            continue
        length = int.from_bytes(source.take(2), "big") - 2
        if mark[1] not in (0xE1, 0xFE):
            source.skip(max(0, length))
            continue
        data = source.take(max(0, length))
        if mark[1] == 0xFE:
            yield COMMENT, data.decode("utf-8", errors="replace")
        elif data.startswith(_EXIF_HEAD):
            yield EXIF, data[len(_EXIF_HEAD) :]
        elif data.startswith(_XMP_HEAD):
            yield XMP, data[len(_XMP_HEAD) :]


def webp(source: Source) -> Iterator[Piece]:
    """The EXIF and XMP chunks, wherever they stand."""
    kinds = {b"EXIF": EXIF, b"XMP ": XMP}
    end = int.from_bytes(source.at(4, 4), "little") + 8
    place = 12
    for _ in range(MAX_PIECES):
        if place + 8 > end:
            return
        head = source.at(place, 8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] in kinds:
            yield kinds[head[:4]], source.take(length).removeprefix(_EXIF_HEAD)
        place += 8 + length + length % 2


def gif(source: Source) -> Iterator[Piece]:
    """The comments; other blocks are passed over."""
    source.skip(10)
    _skip_colours(source, source.take(3)[0])
    for _ in range(MAX_PIECES):
        match source.take(1):
            case b"\x21":
                comment = source.take(1) == b"\xfe"
                data = b"".join(_blocks(source, keep=comment))
                if comment:
                    yield COMMENT, data.decode("utf-8", errors="replace")
            case b"\x2c":
                _skip_colours(source, source.take(9)[8])
                source.skip(1)
                for _ in _blocks(source, keep=False):
                    pass
            case _:
                return


def _skip_colours(source: Source, flags: int) -> None:
    if flags & 0x80:
        source.skip(3 << (flags & 7) + 1)


def _blocks(source: Source, *, keep: bool) -> Iterator[bytes]:
    for _ in range(MAX_PIECES * 10):
        length = source.take(1)[0]
        if not length:
            return
        if keep:
            yield source.take(length)
        else:
            source.skip(length)
    hint = "Open it in an editor of pictures and save it anew."
    raise BadFile(f"{source.name} has too many blocks for a picture", hint=hint)


def avif(source: Source) -> Iterator[Piece]:
    """The items of type Exif, and those of type mime that hold XMP."""
    place = 0
    for _ in range(MAX_PIECES):
        head = source.at(place, 16)
        length, start = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, start = int.from_bytes(head[8:], "big"), 16
        if head[4:8] == b"meta":
            if length > _MAX_META:
                hint = "Open it in an editor of pictures and save it anew."
                raise BadFile(f"{source.name} has a list of parts that is too long", hint=hint)
            meta = dict(_boxes(source.at(place + start, length - start)[4:]))
            yield from _items(source, meta)
            return
        if length < start:  # 0: to the end of the file
            return
        place += length


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every box in `data`."""
    place = 0
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if length < 8:
            return
        yield data[place + 4 : place + 8], data[place + 8 : place + length]
        place += length


def _items(source: Source, meta: dict[bytes, bytes]) -> Iterator[Piece]:
    """What lies at the places that `iloc` names for the items that `iinf` calls metadata."""
    infos = meta.get(b"iinf", b"")
    kinds: dict[int, str] = {}
    for _, info in _boxes(infos[6 if infos[:1] == b"\0" else 8 :]):
        wide = 4 if info[:1] == b"\3" else 2  # bytes of the item's number
        number, kind = int.from_bytes(info[4 : 4 + wide], "big"), info[6 + wide : 10 + wide]
        if kind == b"Exif":
            kinds[number] = EXIF
        elif kind == b"mime" and b"rdf+xml" in info:
            kinds[number] = XMP
    for number, offset, length in _places(meta.get(b"iloc", b"")):
        if (found := kinds.get(number)) == XMP:
            yield XMP, source.at(offset, length)
        elif found == EXIF and length > 4:
            data = source.at(offset, length)  # starts with the distance to the TIFF header
            yield EXIF, data[4 + int.from_bytes(data[:4], "big") :]


def _places(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Number, offset and length of every item of one piece that lies in the file itself."""
    if len(data) < 8:
        raise EOFError
    version, sizes = data[0], int.from_bytes(data[4:6], "big")
    offset, length, base = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15  # bytes of each number
    index = sizes & 15 if version else 0
    wide = 4 if version == 2 else 2
    method = 2 if version else 0
    place = 6 + wide
    for _ in range(int.from_bytes(data[6:place], "big")):
        widths = (wide, method, 2, base, 2)
        if place + sum(widths) > len(data):
            return
        number, how, _, start, extents = _numbers(data, place, widths)
        place += sum(widths)
        if extents == 1 and how == 0:
            _, first, size = _numbers(data, place, (index, offset, length))
            yield number, start + first, size
        place += extents * (index + offset + length)


def _numbers(data: bytes, place: int, widths: tuple[int, ...]) -> list[int]:
    ends = [place + sum(widths[:k]) for k in range(len(widths) + 1)]
    return [int.from_bytes(data[a:b], "big") for a, b in pairwise(ends)]


def tiff(source: Source) -> Iterator[Piece]:
    """Nothing by itself: a TIFF is EXIF data, read in place by `carried`."""
    yield from ()


KINDS: tuple[tuple[str, Callable[[bytes], bool], Reader], ...] = (
    ("png", lambda head: head.startswith(png.SIGNATURE), png.pieces),
    ("jpeg", lambda head: head.startswith(b"\xff\xd8\xff"), jpeg),
    ("webp", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", webp),
    ("gif", lambda head: head[:6] in (b"GIF87a", b"GIF89a"), gif),
    ("avif", lambda head: head[4:8] == b"ftyp", avif),
    ("tiff", lambda head: head[:4] in (b"II*\0", b"MM\0*"), tiff),
)


def kind_of(head: bytes) -> tuple[str, Reader] | None:
    """The format of a file by its first bytes, and what reads it; None for no picture of ours."""
    return next(((name, read) for name, fits, read in KINDS if fits(head)), None)
