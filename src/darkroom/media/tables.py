"""Tables and lists whose rows are things to do: csv, tsv, json, jsonl, and prompts in a txt.

A row is a mapping from column names, as they are written, to values; empty cells are left out.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from darkroom.core.errors import BadFile, TooLarge, shorten

MOST_BYTES = 64 << 20

_SEPARATOR = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # a first line of Excel's

Row = tuple[int, Mapping[str, Any]]  # the number of its line, from 1


def rows(path: Path) -> Iterator[Row]:
    """The rows of the table at `path`; BadFile says where it cannot be read."""
    return READERS[path.suffix.lower()](_text(path), str(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadFile(f"{path} cannot be read: {why}", hint="Check the spelling.") from None
    if len(raw) > MOST_BYTES:
        raise TooLarge(f"{path} is longer than {MOST_BYTES >> 20} MiB", hint="Split it.")
    encoding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise BadFile(f"{path} is not text in UTF-8", hint="Save it as UTF-8.") from None


def _separated(text: str, name: str, *, tabs: bool = False) -> Iterator[Row]:
    said = _SEPARATOR.match(text)
    head = text[said.end() if said else 0 :].partition("\n")[0]
    # Where the comma is the decimal sign, spreadsheets write semicolons.
    by = "\t" if tabs else ";" if head.count(";") > head.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=said[1] if said else by)
    try:
        if said:
            next(reader)
        columns = [column.strip() for column in next(reader, [])]
        named = [column for column in columns if column]
        if len(set(named)) < len(named):
            raise BadFile(f"{name} has two columns of one name")
        for cells in reader:
            if len(cells) > len(columns):
                raise BadFile(
                    f"{name} has {len(cells)} cells in line {reader.line_num}, and"
                    f" {len(columns)} columns",
                    hint='Put what has a comma in it into quotes: "a cat, a hat".',
                )
            row = {c: v.strip() for c, v in zip(columns, cells, strict=False) if v.strip()}
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise BadFile(f"{name} cannot be read in line {reader.line_num}: {error}") from None


def _listed(text: str, name: str) -> Iterator[Row]:
    document = _json(text, name)
    if not isinstance(document, list):
        raise BadFile(f"{name} is no list", hint='Write [{"prompt": "a cat"}, …].')
    for number, each in enumerate(document, start=1):
        yield number, _object(each, f"entry {number} of {name}")


def _lined(text: str, name: str) -> Iterator[Row]:
    for number, line in _lines(text):
        if line.strip():
            where = f"line {number} of {name}"
            yield number, _object(_json(line, where), where)


def _prompts(text: str, name: str) -> Iterator[Row]:
    """One prompt a line: what it says is left to `core.lines`."""
    del name
    for number, line in _lines(text):
        if line.strip():
            yield number, {"line": line.strip()}


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, as files end them: Unicode's other line breaks may be in a text."""
    return enumerate(io.StringIO(text, newline=None), start=1)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadFile(f"{name} is no JSON", hint='Write {"prompt": "a cat"}.') from None


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        told = f"{where} is no object: {shorten(json.dumps(value), 40)}"
        raise BadFile(told, hint='Write {"prompt": "a cat"}.')
    return {key: each for key, each in value.items() if each is not None and each != ""}


READERS: Mapping[str, Callable[[str, str], Iterator[Row]]] = MappingProxyType(
    {
        ".csv": _separated,
        ".tsv": lambda text, name: _separated(text, name, tabs=True),
        ".json": _listed,
        ".jsonl": _lined,
        ".ndjson": _lined,
        ".txt": _prompts,
    }
)
