"""A page on which pictures stand side by side, with what differs between how they were made.

Two pictures of one size also lie on top of each other, with a slider between them. The page is one
file: pictures are in it, or, if they are to be linked, beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image

from darkroom.core.errors import shorten
from darkroom.media.brief import brief
from darkroom.media.compare import Change, heat_map, pixel_change, recipe_changes
from darkroom.media.metadata import Found
from darkroom.media.pages import embedded, link, page, text

MOST = 2048  # px of the longer side of an embedded picture
LONGEST = 2000  # characters of a value in the table

STYLE = """\
.grid { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
figure { margin: 0; background: var(--raised); border: 1px solid var(--line); border-radius: 8px;
  overflow: hidden; }
figure img { width: 100%; }
figcaption { padding: .6rem .8rem; }
figcaption small { display: block; color: var(--soft); }
.wipe { position: relative; margin-bottom: 1rem; }
.wipe img { width: 100%; border-radius: 8px; }
.wipe .over { position: absolute; inset: 0; clip-path: inset(0 0 0 50%); }
.wipe .line { position: absolute; inset-block: 0; left: 50%; width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 0 1px #0008; }
.wipe input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
  cursor: ew-resize; touch-action: pan-y; }
.wipe:focus-within { outline: 3px solid var(--mark); outline-offset: 2px; border-radius: 8px; }
.names { display: flex; justify-content: space-between; gap: 1rem;
  color: var(--soft); margin: 0 0 .5rem; }
.wide { overflow-x: auto; }
th, td { padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); min-width: 6rem; max-width: 30rem; }
th { font-weight: 600; white-space: nowrap; }
p { max-width: 60rem; }
"""
SCRIPT = """\
for (const wipe of document.querySelectorAll(".wipe")) {
  const slider = wipe.querySelector("input");
  const move = () => {
    wipe.querySelector(".over").style.clipPath = `inset(0 0 0 ${slider.value}%)`;
    wipe.querySelector(".line").style.left = `${slider.value}%`;
  };
  slider.addEventListener("input", move);
  move();
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One picture of the page."""

    path: Path
    picture: Image.Image
    found: Found | None


def comparison(pictures: Sequence[Shown], *, linked_from: Path | None = None) -> str:
    """The page of two pictures or more, in their order.

    With `linked_from`, the folder of the page, the pictures are not in it but linked.
    """
    places = [_place(each, linked_from) for each in pictures]
    parts = [f"<h1>{text(' / '.join(each.path.name for each in pictures))}</h1>"]
    wiped = len(pictures) == 2 and pictures[0].picture.size == pictures[1].picture.size
    if wiped:
        parts += _wipe(pictures, places)
    parts.append('<div class="grid">')
    parts += [_figure(*both) for both in zip(pictures, places, strict=True)]
    parts.append("</div>")
    parts += _table(pictures)
    if wiped:
        parts += _pixels(*pictures)
    title = f"{len(pictures)} pictures compared"
    style = STYLE + (_fit(pictures[0].picture.size) if wiped else "")
    return page(title, "\n".join(parts), style=style, script=SCRIPT if wiped else "")


def _fit(size: tuple[int, int]) -> str:
    """The rule by which all of the slider is on the screen at once."""
    width, height = size
    return f".wipe, .names {{ max-width: min(60rem, {85 * width / height:.1f}vh); }}\n"


def _place(shown: Shown, folder: Path | None) -> str:
    return embedded(shown.picture, MOST, quality=90) if folder is None else link(shown.path, folder)


def _wipe(pictures: Sequence[Shown], places: Sequence[str]) -> Iterator[str]:
    left, right = (text(each.path.name) for each in pictures)
    width, height = pictures[0].picture.size
    size = f'width="{width}" height="{height}"'
    yield f'<div class="names"><span>{left}</span><span>{right}</span></div>'
    yield '<div class="wipe">'
    yield f'<img src="{places[0]}" {size} alt="{left}">'
    yield f'<img class="over" src="{places[1]}" {size} alt="{right}">'
    yield '<div class="line"></div>'
    yield f'<input type="range" min="0" max="100" value="50" aria-label="{left} or {right}">'
    yield "</div>"


def _figure(shown: Shown, place: str) -> str:
    width, height = shown.picture.size
    name, told = text(shown.path.name), text(brief(shown.found))
    image = f'<img src="{place}" width="{width}" height="{height}" alt="{name}" loading="lazy">'
    small = f"<small>{width} x {height}</small><small>{told}</small>"
    return f"<figure>{image}<figcaption>{name}{small}</figcaption></figure>"


def _table(pictures: Sequence[Shown]) -> Iterator[str]:
    """One row for each thing that is not the same in all of them."""
    told = [each for each in pictures if each.found is not None]
    rows = differing([each.found for each in told])
    if len(told) < 2:
        return
    yield "<h2>What differs</h2>"
    if not rows:
        yield "<p>Nothing in how they were made.</p>"
        return
    heads = "".join(f"<th>{text(each.path.name)}</th>" for each in told)
    yield f'<div class="wide"><table><tr><th></th>{heads}</tr>'
    for name, values in rows.items():
        cells = "".join(f"<td>{text(shorten(str(value), LONGEST))}</td>" for value in values)
        yield f"<tr><th>{text(name.replace('_', ' '))}</th>{cells}</tr>"
    yield "</table></div>"


def differing(found: Sequence[Found | None]) -> dict[str, list[object]]:
    """What is not the same in all, by its name: the value of each."""
    changes = [
        {change.name: change for change in recipe_changes(*both)} for both in pairwise(found)
    ]
    names = dict.fromkeys(name for found_here in changes for name in found_here)
    return {name: _values([each.get(name) for each in changes]) for name in names}


def _values(changes: Sequence[Change | None]) -> list[object]:
    """The value of each picture, of which only the changes are known."""
    first = next(place for place, change in enumerate(changes) if change is not None)
    change = changes[first]
    values: list[object] = [None if change is None else change.before] * (first + 1)
    for each in changes[first:]:
        values.append(values[-1] if each is None else each.after)
    return ["-" if value in (None, "") else value for value in values]


def _pixels(first: Shown, second: Shown) -> Iterator[str]:
    change = pixel_change(first.picture, second.picture)
    yield "<h2>Pixels</h2>"
    if change is None or change.psnr is None:
        yield "<p>All the same.</p>"
        return
    yield (
        f"<p>{change.changed:.2%} of the pixels differ, by {change.mean:.2f} of 255 on average"
        f" and {change.largest} at most; PSNR {change.psnr:.1f} dB.</p>"
    )
    map_ = embedded(heat_map(first.picture, second.picture), MOST // 2)
    width, height = first.picture.size
    yield f'<p><img src="{map_}" width="{width}" height="{height}" alt="Where they differ"></p>'
