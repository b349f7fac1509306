"""A grid as one web page that needs nothing else: small pictures inside, the whole ones linked.

Over a picture, or with the keyboard on it, stands what is special about it; a click opens the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from darkroom.core.errors import BadFile
from darkroom.media.pages import embedded, link, page, text
from darkroom.media.picture import read_picture
from darkroom.media.sheet import Labels, Place

MOST_EMBEDDED = 400  # pictures; a larger grid links its files, which then have to stay beside it
SMALL = 384  # px, the longer side of what is inside

STYLE = """\
.grid { overflow: auto; max-height: 92vh; border: 1px solid var(--line); }
.grid table { border-spacing: 0; border-collapse: separate; }
.grid th { position: sticky; background: var(--paper); padding: .4rem .6rem; font-weight: 600;
  font-size: .85rem; min-width: 5rem; max-width: 16rem; z-index: 1; }
.grid thead th { top: 0; z-index: 2; }
.grid tbody th { left: 0; text-align: right; }
.grid thead th:first-child { left: 0; z-index: 3; }
.grid td { padding: 2px; vertical-align: top; }
.grid td a { position: relative; display: block; width: max-content; }
.grid img { width: clamp(7rem, 22vw, 24rem); max-width: none; background: var(--line); }
.grid .empty { width: clamp(7rem, 22vw, 24rem); aspect-ratio: 1; background: var(--line); }
.grid .told { position: absolute; inset: auto 0 0 0; max-height: 100%; overflow: hidden;
  padding: .4rem .5rem; background: rgb(0 0 0 / .8); color: #fff; font-size: .75rem;
  line-height: 1.35; white-space: pre-wrap; opacity: 0; pointer-events: none; }
.grid a:is(:hover, :focus-visible) .told { opacity: 1; }
.grid a:focus-visible { outline: 3px solid var(--mark); }
details { margin-top: 1rem; } pre { white-space: pre-wrap; font-size: .8rem; }
@media (max-width: 30rem) { body { padding: .5rem; } .grid th { min-width: 3.5rem;
  max-width: 6rem; padding: .3rem; font-size: .75rem; } }
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture on the page."""

    path: Path
    words: str  # what is special about it
    settings: str = ""  # all of them
    inside: str = ""  # a `data:` address; empty: the file is linked


def shown(path: Path, *, words: str, settings: str = "", inside: bool = True) -> Shown:
    """A picture for the page, small and inside it unless that is not wanted."""
    try:
        data = embedded(read_picture(path), SMALL) if inside else ""
    except BadFile:
        data = ""
    return Shown(path, words, settings, data)


def grid_page(
    title: str,
    labels: Labels,
    pictures: Mapping[Place, Shown],
    *,
    folder: Path,
    made: str = "",
    sheet: Path | None = None,
) -> str:
    """The page, to be put into `folder`; `made` says how, `sheet` is the grid as one picture."""
    blocks = "\n".join(_block(z, labels, pictures, folder=folder) for z in range(len(labels.z)))
    beside = f'<p><a href="{link(sheet, folder)}">The grid as one picture</a></p>' if sheet else ""
    told = f"<details><summary>How it was made</summary><pre>{text_lines(made)}</pre></details>"
    body = f"<h1>{text(title)}</h1>\n{beside}\n{blocks}\n{told if made else ''}"
    return page(title, body, style=STYLE)


def _block(z: int, labels: Labels, pictures: Mapping[Place, Shown], *, folder: Path) -> str:
    heads = "".join(f'<th scope="col">{text(label)}</th>' for label in labels.x)
    rows = "\n".join(
        f'<tr><th scope="row">{text(label)}</th>'
        + "".join(_cell(pictures.get((x, y, z)), folder) for x in range(len(labels.x)))
        + "</tr>"
        for y, label in enumerate(labels.y)
    )
    title = f"<h2>{text(labels.z[z])}</h2>\n" if labels.z[z] else ""
    return (
        f'{title}<div class="grid" tabindex="0"><table><thead><tr><th></th>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cell(picture: Shown | None, folder: Path) -> str:
    if picture is None:
        return '<td><div class="empty"></div></td>'
    address = link(picture.path, folder)
    told = "\n".join(filter(None, (picture.words, picture.settings)))
    return (
        f'<td><a href="{address}"><img src="{picture.inside or address}" loading="lazy"'
        f' alt="{text(picture.words)}"><span class="told">{text_lines(told)}</span></a></td>'
    )


def text_lines(value: str) -> str:
    """Text of several lines, for where line breaks are kept."""
    return "\n".join(map(text, value.splitlines()))
