"""Embeddings that A1111 hides in pictures, so that they can be shared where only pictures can.

    read_image(path) -> ImageEmbedding, or None where the picture is only a picture
    own_words(path) -> the words that any embedding file brings besides its name

The embedding is JSON, a tensor in it `{"TORCHTENSOR": nested list}`. It stands, base64, in a text
chunk of a PNG; or, to survive sites that strip those, in the pixels: compressed by zlib, its low
nibbles in a block along the left edge, its high ones along the right edge, both xor'd with a fixed
sequence of pseudo-random nibbles, each in the lower half of one colour value. A black line parts
either block from the picture. No torch here: pixels by Pillow, the rest by whole numbers.
"""

import base64
import json
import math
import stat
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops

from darkroom.core.errors import BadFile
from darkroom.weights import foreign
from darkroom.weights.embedding_facts import PREFIX, embedding_facts
from darkroom.weights.header import Header, TensorInfo, read_header

Join = Callable[[Image.Image, Image.Image], Image.Image]

PICTURES = (".png", ".webp")
CHUNK = "sd-ti-embedding"
MAX_PIXELS = 16_000_000
MAX_JSON = 4_000_000  # bytes; 75 vectors of SDXL's longest have 2.2 million digits
MAX_LISTS = 1_000  # in it: one per vector and a few
MAX_PACKED = 2_000_000  # bytes, compressed: such digits shrink by half

_NIBBLE = bytes(value & 15 for value in range(256))
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, OverflowError, struct.error, zlib.error,
    MemoryError, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageEmbedding:
    """An embedding from a picture, named as the same one in a file would be."""

    header: Header
    values: Mapping[str, Sequence[float]]  # numbers of each tensor, in row order

    @property
    def name(self) -> str:
        """The word it stands for, by its maker's will; "" where it is the file's name."""
        return self.header.metadata.get("name", "")


def read_image(path: Path, *, pixels: bool = True) -> ImageEmbedding | None:
    """The embedding in the picture at `path`; None where there is none, or none that is whole.

    Without `pixels` only the chunks before them are looked at, which takes no time.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            return None
        with Image.open(path, formats=("PNG", "WEBP")) as image:
            raw = _json(image, pixels)
    except (FileNotFoundError, PermissionError) as error:
        raise foreign.unreadable(path, error) from error
    except _DAMAGED:
        return None
    return _embedding(path, status.st_size, raw) if raw and raw.count(b"[") <= MAX_LISTS else None


def only_a_picture(path: Path) -> bool:
    """Whether it is a picture without an embedding, as lie beside others to show them."""
    return path.suffix.lower() in PICTURES and read_image(path) is None


def own_words(path: Path) -> tuple[str, ...]:
    """The words that a file names besides its own name; () for what cannot be read.

    Of tokens those in angle brackets, since another could be any word of the language.
    """
    try:
        if path.suffix.lower() in PICTURES:
            image = read_image(path, pixels=False)
            return (image.name,) if image and image.name else ()
        facts = embedding_facts(read_header(path))
    except BadFile:
        return ()
    tokens = () if facts is None else facts.tokens
    return tuple(token for token in tokens if token.startswith("<") and token.endswith(">"))


def _json(image: Image.Image, pixels: bool) -> bytes:
    if pixels and image.width * image.height > MAX_PIXELS:
        return b""
    if pixels:
        image.load()  # a text chunk may come last
    if isinstance(text := image.info.get(CHUNK), str):
        return base64.b64decode(text) if len(text) <= MAX_JSON * 4 // 3 else b""
    return _from_pixels(image.convert("RGB")) if pixels else b""


def _from_pixels(image: Image.Image) -> bytes:
    """The JSON in the edges of a picture; b"" where they hold none."""
    image = image.crop(_all_channels(image, ImageChops.darker).getbbox())  # without a black border
    low = image.point(_NIBBLE * 3)
    filled, _ = _all_channels(low, ImageChops.lighter).getprojection()
    if filled.count(0) < 2:
        return b""
    first, last = filled.index(0), len(filled) - 1 - filled[::-1].index(0)
    left, right = (0, 0, first, low.height), (last + 1, 0, low.width, low.height)
    lower, upper = (low.crop(box).tobytes()[:MAX_PACKED] for box in (left, right))
    if len(lower) != len(upper) or _joined(lower[:2], upper[:2])[:1] != b"\x78":  # zlib's mark
        return b""
    unpacking = zlib.decompressobj()
    raw = unpacking.decompress(_joined(lower, upper), MAX_JSON)
    return raw if unpacking.eof else b""  # what follows it only fills the block


def _all_channels(image: Image.Image, join: Join) -> Image.Image:
    """Red, green and blue joined into one by a function of two."""
    red, green, blue = image.split()
    return join(join(red, green), blue)


def _joined(lower: bytes, upper: bytes) -> bytes:
    """Bytes from the nibbles of both blocks, the sequence taken off them."""
    mask = int.from_bytes(_sequence(len(lower)), "little")
    low, high = (int.from_bytes(nibbles, "little") ^ mask for nibbles in (lower, upper))
    return (high << 4 | low).to_bytes(len(lower), "little")


def _sequence(count: int) -> bytearray:
    """A1111's nibbles: a linear congruential generator (Numerical Recipes' constants) from 0."""
    state, made = 0, bytearray(count)
    for place in range(count):
        state = (1664525 * state + 1013904223) % 2**32
        made[place] = state % 255 & 15
    return made


def _embedding(path: Path, size: int, raw: bytes) -> ImageEmbedding | None:
    """The JSON as tensors and texts; None where it is of something else."""
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("string_to_param"), dict):
        return None
    tensors, values = {}, {}
    for token, tensor in said["string_to_param"].items():
        if (rows := _rows(tensor)) is None:
            return None
        name, shape = f"{PREFIX}{token}", (len(rows), len(rows[0]))
        values[name] = [number for row in rows for number in row]
        tensors[name] = TensorInfo("F64", shape, 0, 8 * math.prod(shape))
    texts = {key: str(value) for key, value in said.items() if isinstance(value, str | int)}
    return ImageEmbedding(Header(path, tensors, texts, size), values)


def _rows(tensor: object) -> list[list[float]] | None:
    """The rows of a tensor of one or two dimensions."""
    match tensor:
        case {"TORCHTENSOR": [list(), *_] as rows}:
            pass
        case {"TORCHTENSOR": [_, *_] as row}:
            rows = [row]
        case _:
            return None
    width = len(rows[0])
    if not width or any(not isinstance(row, list) or len(row) != width for row in rows):
        return None
    return rows if all(_is_number(value) for row in rows for value in row) else None


def _is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)
