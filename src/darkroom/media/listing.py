"""What a batch works off: the items in folders, archives, tables and lists of prompts.

    listing = listed(batch, archives)   names and places only; no picture is opened
    said = said_by(item, batch, archives, picture=path)   what its name, text or metadata say

Items are named by what they come from, folders and all, so that results can be put down alike.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from darkroom.core.batch import Item, Located, begins_with_each, column
from darkroom.core.errors import BadFile, BadRequest, TooLarge, shorten
from darkroom.core.lines import read_line
from darkroom.core.series import BatchRequest
from darkroom.core.settings import expanded
from darkroom.media import archives as packed
from darkroom.media.archives import Archives
from darkroom.media.tables import READERS, rows

PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".tga"}
)
TEXTS = (".txt", ".caption")
MOST_ITEMS = 100_000
MOST_TEXT = 1 << 20  # bytes of a file with a prompt
_NO_FILES = frozenset('<>:"|?*')  # what Windows cannot have in names


@dataclass(frozen=True, slots=True)
class Listing:
    """The items of a batch, in order, and what there is to say about them."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Files:
    """Files of one origin: by their names there, "/" between folders."""

    found: Mapping[str, Located]
    hidden: int = 0  # folders that were not looked into

    def beside(self, name: str, suffixes: Iterable[str]) -> Located | None:
        """The file of the same name, but for its ending."""
        stem = str(PurePosixPath(name).with_suffix(""))
        names = (f"{base}{suffix}" for base in (stem, name) for suffix in suffixes)
        return next((self.found[each] for each in names if each in self.found), None)


def listed(batch: BatchRequest, archives: Archives, *, but: Path | None = None) -> Listing:
    """The items of `batch`; those below the folder `but`, its results, are left out.

    BadRequest (BadFile, UnknownName) where an input cannot be read, or a table has a column that is
    no field.
    """
    masks = _Masks.of(batch, archives)
    notes: list[str] = []
    items: list[Item] = []
    names, keys = _Unused(), _Unused()
    for source in batch.inputs:
        for item in _items(batch, expanded(Path(source)), archives, but=but, notes=notes):
            if len(items) >= MOST_ITEMS:
                raise TooLarge(f"these are more than {MOST_ITEMS:,} items", hint="Split the batch.")
            name = names.take(*_wanted(item))
            key = keys.take(item.key or name)
            items.append(replace(masks.given(item), name=name, key=key, number=len(items)))
    if not items:
        raise BadRequest(
            f"there is nothing to do in {shorten(', '.join(batch.inputs), 100)}",
            hint="Name pictures, or a folder, archive or table that has some.",
        )
    if any(item.picture for item in items):
        _check_use(batch)
    said = dict.fromkeys(note for item in items for note in item.notes)
    return Listing(tuple(items), (*notes, *said))


def said_by(
    item: Item, batch: BatchRequest, archives: Archives, *, picture: Path | None
) -> dict[str, Any]:
    """What the item's name, text or metadata say, by fields of the request.

    `picture` is its file. BadFile where a text cannot be read.
    """
    match batch.prompt_from:
        case "none":
            return {}
        case "name":
            return {"prompt": prompt_of(item.name)}
        case "text":
            if item.text is None:
                raise BadFile(
                    f"there is no text beside {item.told}", hint="Put one there that ends in .txt."
                )
            return {"prompt": _prompt_in(item.text, archives)}
        case "metadata":
            return {} if picture is None else _of_metadata(item, batch, picture)


def prompt_of(name: str) -> str:
    """The prompt in the name of a file: without numbers at its ends, "_" for spaces."""
    text = PurePosixPath(name).name.replace("_", " ")
    text = re.sub(r"^[\s-]*(?:\d+(?:[\s.-]+|$))*", "", text)
    return re.sub(r"[\s-]*(\(\d+\)|\d+)?\s*$", "", text).strip()


def brought(located: Located, archives: Archives, folder: Path) -> Path:
    """The file itself; a member of an archive is put into `folder`, which is made for it."""
    if not located.member:
        return located.path
    folder.mkdir()
    path = folder / re.sub(r"[^\w.-]", "_", PurePosixPath(located.member).name)[-100:]
    path.write_bytes(archives.read(located.path, located.member))
    return path


# ---- what the inputs are -------------------------------------------------------------------------


def _items(
    batch: BatchRequest, path: Path, archives: Archives, *, but: Path | None, notes: list[str]
) -> Iterator[Item]:
    """The items of one input."""
    suffix = path.suffix.lower()
    if path.is_dir():
        files = _in_folder(path, recursive=batch.recursive, but=but)
        if files.hidden:
            told = f"{path} has {files.hidden} folders that are not looked into: recursive is off"
            notes.append(told)
        yield from _of_files(files)
    elif not path.exists() and re.search(r"[*?[]", str(path)):
        yield from _of_files(_matching(str(path), but))
    elif path.name.lower().endswith(packed.SUFFIXES):
        names = {name: Located(path, name) for name in archives.names(path)}
        yield from _of_files(_Files(names))
    elif suffix in READERS:
        yield from _of_table(batch, path)
    elif path.exists():
        beside = {f.name: Located(f) for f in (path, *(path.with_suffix(s) for s in TEXTS))}
        there = {name: found for name, found in beside.items() if found.path.is_file()}
        text = _Files(there).beside(path.name, TEXTS)
        picture = Located(path)
        yield Item(name=path.stem, key=str(picture), told=path.name, picture=picture, text=text)
    else:
        raise BadFile(f"there is no file {path}", hint="Check the spelling and the folder.")


def _of_files(files: _Files) -> Iterator[Item]:
    """The pictures among files, in the order in which people count."""
    for name in sorted(files.found, key=_natural):
        path = PurePosixPath(name)
        if path.suffix.lower() in PICTURES and not path.name.startswith("."):
            yield Item(
                name=str(path.with_suffix("")),
                key=str(files.found[name]),
                told=name,
                picture=files.found[name],
                text=files.beside(name, TEXTS),
            )


def _of_table(batch: BatchRequest, path: Path) -> Iterator[Item]:
    """One item for each row; what is a file in it lies beside the table."""
    known: dict[str, str] = {}
    for number, row in rows(path):
        told = f"{path.name} line {number}"
        if path.suffix.lower() == ".txt":
            yield _of_line(str(row["line"]), path, number)
            continue
        for name in row.keys() - known.keys():
            known[name] = column(name, batch.base)
        fields = {known[name]: value for name, value in row.items()}
        image, mask, named = (fields.pop(each, None) for each in ("image", "mask", "name"))
        picture = None if image is None else Located(path.parent / str(image))
        default = f"{path.stem}-{number:05}" if picture is None else picture.path.stem
        yield Item(
            name=str(named or default),
            told=f"{told} ({shorten(str(named or image), 60)})" if named or image else told,
            picture=picture,
            mask=None if mask is None else Located(path.parent / str(mask)),
            text=None if picture is None else _text_beside(picture.path),
            fields=fields,
        )


def _of_line(line: str, path: Path, number: int) -> Item:
    """A line of a list of prompts; what cannot be read is told at its turn."""
    name, told = f"{path.stem}-{number:05}", f"{path.name} line {number}"
    try:
        read = read_line(line)
    except BadRequest as error:
        return Item(name=name, told=told, problem=error.sentence())
    return Item(name=name, told=told, fields=read.fields, notes=read.notes)


def _text_beside(path: Path) -> Located | None:
    texts = (path.with_suffix(suffix) for suffix in TEXTS)
    return next((Located(text) for text in texts if text.is_file()), None)


def _in_folder(folder: Path, *, recursive: bool, but: Path | None) -> _Files:
    found: dict[str, Located] = {}
    hidden = 0
    left = None if but is None else but.absolute()
    pending = [(folder, "")]
    while pending:
        place, prefix = pending.pop()
        try:
            entries = list(os.scandir(place))
        except OSError as error:
            why = error.strerror or str(error)
            raise BadFile(f"the folder {place} cannot be read: {why}") from None
        for entry in entries:
            if not entry.is_dir():
                found[prefix + entry.name] = Located(Path(entry.path))
            elif recursive and not entry.is_symlink() and Path(entry.path).absolute() != left:
                pending.append((Path(entry.path), f"{prefix}{entry.name}/"))
            elif not entry.name.startswith(".") and Path(entry.path).absolute() != left:
                hidden += 1
    return _Files(found, 0 if recursive else hidden)


def _matching(pattern: str, but: Path | None) -> _Files:
    """The files that a pattern is for, by their names below its part without wildcards."""
    parts = Path(pattern).parts
    start = tuple(_until_wildcard(parts))
    fixed = Path(*start)
    left = None if but is None else but.absolute()
    paths = fixed.glob("/".join(parts[len(start) :]))
    kept = (p for p in paths if p.is_file() and (left is None or left not in p.absolute().parents))
    found = {path.relative_to(fixed).as_posix(): Located(path) for path in kept}
    if not found:
        raise BadFile(f"no file matches {pattern}", hint="Check the spelling and the folder.")
    texts = {
        name: text
        for each, located in found.items()
        for suffix in TEXTS
        if (text := Located(located.path.with_suffix(suffix))).path.is_file()
        for name in (str(PurePosixPath(each).with_suffix(suffix)),)
    }
    return _Files(texts | found)


def _until_wildcard(parts: tuple[str, ...]) -> Iterator[str]:
    for part in parts:
        if re.search(r"[*?[]", part):
            return
        yield part


# ---- masks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Masks:
    """The masks of a batch: a folder or archive of them, or one for all."""

    one: Located | None = None
    many: _Files | None = None
    where: str = ""

    @classmethod
    def of(cls, batch: BatchRequest, archives: Archives) -> "_Masks":
        if batch.masks is None:
            return cls()
        path = expanded(Path(batch.masks))
        if path.is_dir():
            return cls(None, _in_folder(path, recursive=True, but=None), str(path))
        if path.name.lower().endswith(packed.SUFFIXES):
            names = {name: Located(path, name) for name in archives.names(path)}
            return cls(None, _Files(names), str(path))
        return cls(Located(path))

    def given(self, item: Item) -> Item:
        """The item with its mask; one that has none says so at its turn."""
        if item.mask is not None or (self.one is None and self.many is None):
            return item
        if self.many is None:
            return replace(item, mask=self.one)
        names = (item.name, PurePosixPath(item.name).name)
        endings = sorted(PICTURES)
        mask = next(filter(None, (self.many.beside(f"{n}.png", endings) for n in names)), None)
        if mask is None:
            return replace(item, problem=f"there is no mask for {item.told} in {self.where}")
        return replace(item, mask=mask)


# ---- names and prompts ---------------------------------------------------------------------------


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which picture 2 comes before picture 10."""
    parts = re.split(r"(\d{1,18})", name.casefold())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _clean(name: str) -> str:
    """A name of files below the folder of the results, on any system."""
    parts = [
        "".join("_" if c in _NO_FILES or ord(c) < 32 else c for c in part).strip(" .")
        for part in name.replace("\\", "/").split("/")
    ]
    kept = [part[:150] for part in parts if part not in ("", ".", "..")]
    return "/".join(kept[-8:]) or "unnamed"


def _wanted(item: Item) -> Iterator[str]:
    """The names that an item may have: its own, or that with the ending of its picture behind."""
    name = _clean(item.name)
    yield name
    ending = PurePosixPath(item.told).suffix.lstrip(".").lower() if item.picture else ""
    if ending.isalnum():
        yield f"{name}-{ending}"


class _Unused:
    """Gives no name twice, in whatever case."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of each name: the next to be put behind it

    def take(self, *wanted: str) -> str:
        """The first of the names that is not taken; else the first with a number behind."""
        found = next((name for name in wanted if self._is_free(name)), None)
        if found is None:
            first = wanted[0].casefold()
            numbered = (f"{wanted[0]}-{n}" for n in count(self._numbers[first]))
            found = next(filter(self._is_free, numbered))
            self._numbers[first] = int(found.rpartition("-")[2]) + 1
        self._numbers[found.casefold()] = 2
        return found

    def _is_free(self, name: str) -> bool:
        return name.casefold() not in self._numbers


def _prompt_in(text: Located, archives: Archives) -> str:
    if text.member:
        raw = archives.read(text.path, text.member)
    else:
        try:
            with text.path.open("rb") as file:
                raw = file.read(MOST_TEXT + 1)
        except OSError as error:
            raise BadFile(f"{text} cannot be read: {error.strerror}") from None
    if len(raw) > MOST_TEXT:
        raise TooLarge(f"{text} is too long for a prompt")
    try:
        return " ".join(raw.decode("utf-8-sig").split())
    except UnicodeDecodeError:
        raise BadFile(f"{text} is not text in UTF-8", hint="Save it as UTF-8.") from None


def _of_metadata(item: Item, batch: BatchRequest, picture: Path) -> dict[str, Any]:
    from darkroom.media.metadata import find

    found = find(picture)
    if found is None:
        raise BadFile(f"{item.told} says nothing about how it was made")
    fields = found.fields()
    return {name: fields[name] for name in batch.take if fields.get(name) not in (None, "")}


def _check_use(batch: BatchRequest) -> None:
    """BadRequest where the pictures would be looked at by nobody."""
    if begins_with_each(batch) or batch.prompt_from != "none":
        return
    if batch.base.kind == "image" and all(_is_table(source) for source in batch.inputs):
        return
    raise BadRequest(
        "the request does nothing with the pictures of the batch",
        hint='`darkroom batch img2img` begins with each of them (init.image is "each" in a'
        " request); --prompt-from (prompt_from) takes the prompt from them.",
    )


def _is_table(source: str) -> bool:
    return Path(source).suffix.lower() in READERS
