"""Web pages that are one file: nothing is fetched from elsewhere, and no script hides in a tag.

    page("Title", "<p>HTML that the caller has escaped</p>", style="p { … }", script="…")

The page's own policy allows the pictures beside it or inside it, and exactly the one style and the
one script that it was made with (by their hashes). So a name or a prompt from a stranger, should it
ever slip through `text`, runs nothing. `style="…"` and `onclick="…"` in tags have no effect.
"""

import base64
import hashlib
import html
import io
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageOps

from darkroom.core.errors import printable

_FRAME = """\
:root { color-scheme: light dark; --ink: #1c1b1a; --soft: #6d6a66; --paper: #faf9f7;
  --line: #dedad4; --raised: #fff; --mark: #b4541a; }
@media (prefers-color-scheme: dark) { :root { --ink: #eceae6; --soft: #a19d97; --paper: #171615;
  --line: #35322f; --raised: #211f1d; --mark: #f0955a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 120rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
a { color: var(--mark); }
img { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; }
"""


def page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A whole page; `title` is plain text, `body` is HTML, `script` runs when the page is there."""
    style = f"{_FRAME}{style}"
    allowed = {
        "default-src": "'none'",
        "img-src": "'self' file: data:",
        "style-src": _hash(style),
        "script-src": _hash(script) if script else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    policy = "; ".join(f"{name} {value}" for name, value in allowed.items())
    last = f"<script>{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"{body}\n{last}</body>\n</html>\n"
    )


def text(value: object) -> str:
    """`value` as text in a page, also inside a quoted attribute."""
    return html.escape(printable(str(value)))


def link(path: Path, folder: Path) -> str:
    """The address of `path` from a page in `folder`, on the same disk; for a quoted attribute."""
    try:
        near = path.absolute().relative_to(folder.absolute()).as_posix()
    except ValueError:
        return html.escape(path.absolute().as_uri())
    return quote(f"./{near}" if ":" in near.partition("/")[0] else near)


def embedded(picture: Image.Image, most: int | None = None, *, quality: int = 80) -> str:
    """The picture as a `data:` address: WebP, no side longer than `most` pixels.

    Quality 100 changes no pixel.
    """
    if most is not None and max(picture.size) > most:
        picture = ImageOps.contain(picture, (most, most), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, lossless=quality == 100, exact=quality == 100)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
