"""The text chunks of a PNG, read without decoding pixels and with every size bounded.

PNG specification, third edition, 11.3.3: tEXt, zTXt and iTXt.
"""

import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from darkroom.core.errors import BadFile, shorten

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 16 << 20  # bytes, unpacked; a longer text is refused
MAX_CHUNKS = 100_000


def text_chunks(path: Path) -> dict[str, str]:
    """Key to text of every text chunk; BadFile when `path` is no whole PNG."""
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe would wait for ever
            raise BadFile(f"{path} is not a regular file", hint="Name a picture.")
        with path.open("rb") as file:
            if file.read(8) != SIGNATURE:
                raise BadFile(f"{path} is not a PNG picture")
            return dict(_texts(path, file))
    except FileNotFoundError:
        raise BadFile(f"{path} does not exist") from None
    except IsADirectoryError:
        raise BadFile(f"{path} is a folder", hint="Give the picture itself.") from None
    except OSError as error:
        raise BadFile(f"{shorten(str(path), 300)} cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL in the name
        raise BadFile(f"{shorten(str(path))!r} is not a file name") from None


def _texts(path: Path, file: BinaryIO) -> Iterator[tuple[str, str]]:
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            raise BadFile(f"{path} is cut off", hint="Copy or download it again.")
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND":
            return
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            file.seek(length + 4, 1)
            continue
        if length > MAX_TEXT:
            raise BadFile(f"{path} holds a text of {length:,} bytes, which is too long")
        data = file.read(length)
        file.seek(4, 1)
        if len(data) == length:
            key, _, rest = data.partition(b"\0")
            yield key.decode("latin-1"), _decode(path, kind, rest)
    raise BadFile(f"{path} has too many chunks for a picture")


def _decode(path: Path, kind: bytes, rest: bytes) -> str:
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt":
        return _unpack(path, rest[1:]).decode("latin-1")
    packed, body = rest[:1] == b"\1", rest[2:]
    _language, _, body = body.partition(b"\0")
    _translated, _, body = body.partition(b"\0")
    return (_unpack(path, body) if packed else body).decode("utf-8", errors="replace")


def _unpack(path: Path, data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, MAX_TEXT)
    except zlib.error:
        raise BadFile(f"{path} holds a damaged text") from None
    if stream.unconsumed_tail:
        raise BadFile(f"{path} holds a text that unpacks to more than {MAX_TEXT >> 20} MiB")
    return text
