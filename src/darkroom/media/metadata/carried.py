"""Every text that a file carries, under the name it was stored by, whatever the file is.

What a file is, its first bytes tell. `Carried` is what the readers of the programs' dialects look
into; they see no bytes and no paths.
"""

import io
import json
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from darkroom.core.errors import BadFile, shorten
from darkroom.media.metadata import exif, xmp
from darkroom.media.metadata.containers import kind_of
from darkroom.media.metadata.source import EXIF, HEADER, MAX_TEXT, XMP, Piece, Source

MAX_JSON = 8 << 20  # characters of one document; parsed, JSON takes some 25 times its size
MAX_ALL_JSON = 16 << 20  # characters of all documents of one file
MAX_INPUT = 256 << 20  # bytes from standard input
TEXT = "text"  # the key of a text that is a file of its own, or came from standard input
STANDARD_INPUT = "-"
BOM = "\ufeff"

# ComfyUI writes "prompt:{…}" and "workflow:{…}" into EXIF tags that are made for cameras.
_LABELLED = re.compile(r"\s*(prompt|workflow):\s*(?=\{)", re.IGNORECASE)
_WEB_PAGE = re.compile(r"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The texts of one file; `documents` are those among them that are JSON objects."""

    name: str
    texts: Mapping[str, str]
    kind: str = TEXT  # of file: png, jpeg, … or TEXT
    size: tuple[int, int] | None = None  # pixels, where the header of a PNG says so
    documents: Mapping[str, Document] = field(default_factory=dict)
    refused: BadFile | None = None  # what to say where the texts that could be read say nothing

    @classmethod
    def of(
        cls,
        name: str,
        texts: Mapping[str, str],
        *,
        kind: str = TEXT,
        size: Any = None,
        refused: BadFile | None = None,
    ) -> "Carried":
        """Find the documents among `texts`, and take off the marks of the order of bytes."""
        texts = {key: text.lstrip(BOM) for key, text in texts.items()}
        documents: dict[str, Document] = {}
        left = MAX_ALL_JSON
        for key, text in texts.items():
            label = _LABELLED.match(text)
            body = text[label.end() :] if label else text
            if len(body) <= left and (document := parse_object(body)) is not None:
                documents[label[1].lower() if label else key] = document
                left -= len(body)
        return cls(
            name=name, texts=texts, kind=kind, size=size, documents=documents, refused=refused
        )

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture, and not a text by itself."""
        return self.kind != TEXT


def parse_object(text: str) -> Document | None:
    """The JSON object that `text` is; None when it is none, is too long, or nests too deep."""
    if len(text) > MAX_JSON or text.lstrip()[:1] != "{":
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def carried_by(path: Path) -> Carried:
    """What the file at `path` carries; BadFile when it cannot be read. `-` is standard input."""
    if str(path) == STANDARD_INPUT:
        data = sys.stdin.buffer.read(MAX_INPUT + 1)
        if len(data) > MAX_INPUT:
            raise BadFile(
                f"standard input is longer than {MAX_INPUT >> 20} MiB",
                hint="Save it as a file and name that.",
            )
        return carried_in(io.BytesIO(data), "standard input")
    with opened(path) as file:
        return carried_in(file, str(path))


def carried_in(file: BinaryIO, name: str) -> Carried:
    """What an open file carries; `name` is for messages."""
    head = file.read(16)
    file.seek(0)
    found = kind_of(head)
    source = Source(file, name)
    if found is None:
        return _text_file(source, file)
    kind, read = found
    texts: dict[str, str] = {}
    size = None
    try:
        for key, data in _unwrapped(kind, source, read(source)):
            if isinstance(data, str):
                texts.setdefault(key, data)
            elif key == HEADER:
                size = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big")
    except EOFError:  # what stands before the end is as good as ever
        source.passed_over.append(BadFile(f"{name} is cut off", hint="Copy or download it again."))
    refused = next(iter(source.passed_over), None)
    if refused is not None and not texts:
        raise refused
    return Carried.of(name, texts, kind=kind, size=size, refused=refused)


def _unwrapped(kind: str, source: Source, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces, with EXIF and XMP taken apart."""
    if kind == "tiff":
        pieces = exif.texts(source.at)
    for key, data in pieces:
        if key == EXIF and isinstance(data, bytes):
            try:
                yield from _unwrapped(EXIF, source, exif.of_bytes(data))
            except EOFError:  # damaged EXIF in a whole file
                continue
        elif key == XMP and isinstance(data, bytes):
            yield from xmp.texts(data)
        else:
            yield key, data


def _text_file(source: Source, file: BinaryIO) -> Carried:
    data = file.read(MAX_TEXT + 1)
    source.count(len(data))
    text = data.decode("utf-8", errors="replace").lstrip(BOM)
    if "\0" in text[:4096] or _WEB_PAGE.match(text):
        hint = "PNG, JPEG, WebP, AVIF, GIF, TIFF, texts and JSON are read."
        raise BadFile(f"{source.name} is not a picture", hint=hint)
    texts = {TEXT: text}
    if (document := parse_object(text)) is not None:  # an export: its values are texts as well
        texts |= {key: _as_text(value) for key, value in document.items() if key != TEXT}
    return Carried.of(source.name, texts)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file at `path`, open for reading; BadFile says why it cannot be."""
    told = shorten(str(path), 300)
    try:
        found = path.stat()
        mode = found.st_mode
        if stat.S_ISREG(mode) and not found.st_size:
            raise BadFile(f"{told} is empty", hint="Copy or download it again.")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe would wait for ever
            raise BadFile(f"{told} is not a regular file", hint="Name a picture.")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise BadFile(f"{told} does not exist", hint="Is the name spelt right?") from None
    except IsADirectoryError:
        raise BadFile(f"{told} is a folder", hint="Give the picture itself.") from None
    except OSError as error:
        hint = "Can you open it yourself? Try a copy of it."
        raise BadFile(f"{told} cannot be read: {error.strerror}", hint=hint) from None
    except ValueError:  # a NUL in the name
        hint = "Name a picture."
        raise BadFile(f"{shorten(str(path))!r} is not a file name", hint=hint) from None
