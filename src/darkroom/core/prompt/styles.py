"""Styles: prompts kept under a name, in the `styles.csv` that A1111 and its kin share.

name,prompt,negative_prompt
Film,"{prompt}, 35mm photograph, grain","painting, cartoon"
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from darkroom.core.errors import BadFile, UnknownName

_COLUMNS = "Its first line names the columns: name,prompt,negative_prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a style makes of a prompt; `{prompt}` in it is the place for the prompt."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(text: str) -> dict[str, Style]:
    """The styles in the `text` of a CSV file, by name; the last of a name counts.

    A row that begins with `#` is a comment. The oldest files call the column `text`. BadFile if it
    is no such file.
    """
    lines = StringIO(text.removeprefix("\ufeff"), newline="")  # one in quotes belongs to the prompt
    try:
        rows = csv.DictReader(lines, skipinitialspace=True)
        columns = set(rows.fieldnames or ())
        if "name" not in columns or not columns & {"prompt", "text"}:
            raise BadFile("these are no styles", hint=_COLUMNS)
        styles = [_style(row) for row in rows if row["name"] and not row["name"].startswith("#")]
    except csv.Error as error:
        raise BadFile(f"the styles cannot be read: {error}", hint=_COLUMNS) from None
    return {style.name: style for style in styles}


def _style(row: Mapping[str, str | None]) -> Style:
    return Style(
        name=row["name"] or "",
        prompt=row.get("prompt", row.get("text")) or "",
        negative_prompt=row.get("negative_prompt") or "",
    )


def read_styles_file(path: Path) -> dict[str, Style]:
    """The styles in the file `path`; BadFile if it cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadFile(f"{path} cannot be read: {reason}", hint=_COLUMNS) from None
    return read_styles(text)


def apply_styles(prompt: str, negative_prompt: str, styles: Iterable[Style]) -> tuple[str, str]:
    """Both prompts with `styles` applied, one after the other."""
    for style in styles:
        prompt = _merged(prompt, style.prompt)
        negative_prompt = _merged(negative_prompt, style.negative_prompt)
    return prompt, negative_prompt


def find_styles(names: Iterable[str], styles: Mapping[str, Style]) -> list[Style]:
    """The styles of these names, or UnknownName."""
    for name in (names := list(names)):
        if name not in styles:
            raise UnknownName("style", name, styles, hint="Names are written as in styles.csv.")
    return [styles[name] for name in names]


def _merged(prompt: str, style: str) -> str:
    if "{prompt}" in style:
        return style.replace("{prompt}", prompt)
    return ", ".join(filter(None, (prompt.strip(), style.strip())))
