"""What the measurements of the starter's pictures share: how they are made, judged and kept.

asked = flags(__doc__, pictures=8).parse_args()
with opened(asked) as gallery:
    picture = gallery.made("a red apple", 7)
    gallery.seen(picture)["object"]
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from darkroom.core.errors import DarkroomWarning
from darkroom.core.request import ImageRequest
from darkroom.engine.caption.starter import Starter
from darkroom.studio import Studio

SIDE = 128  # px, of the starter's pictures
Fields = dict[str, Any]


class Gallery:
    """The starter, its captioner, and the pictures of one measurement; `pictures` is how many."""

    def __init__(self, scratch: Path, asked: Namespace) -> None:
        self.pictures: int = asked.pictures
        self._studio = Studio(data_dir=scratch / "data", threads=asked.threads)
        self._judge, self._set, self._keep = Starter.shipped(), fields(asked.set), asked.keep
        self._files = scratch / "files"
        self._files.mkdir()

    def made(self, prompt: str, seed: int, **blocks: Any) -> Image.Image:
        """One picture: of SIDE, or of the size of the one that it begins with."""
        size = {} if "init" in blocks else {"width": SIDE, "height": SIDE}
        request = ImageRequest.parse({"prompt": prompt, "seed": seed, **size, **blocks})
        (picture,) = self._studio.run(request)
        return picture.image

    def measured(self, prompt: str, seed: int, **blocks: Any) -> Image.Image:
        """The same with what `--set` says; fields of a block only where the request has it."""
        whole = {name: value for name, value in self._set.items() if not isinstance(value, dict)}
        for name, value in blocks.items():
            own = self._set.get(name, value)
            whole[name] = {**value, **own} if isinstance(value, dict) else own
        return self.made(prompt, seed, **whole)

    def seen(self, picture: Image.Image) -> dict[str, str]:
        """What the captioner sees: object, colour, background and style."""
        (heads,) = self._judge.scores([picture])
        return {name: scores[0][0] for name, scores in heads.items()}

    def file(self, picture: Image.Image) -> str:
        """The picture as a file that a request can name."""
        path = self._files / f"{len(list(self._files.iterdir()))}.png"
        picture.save(path)
        return str(path)

    def show(self, name: str, *pictures: Image.Image) -> None:
        """Keep pictures of one height side by side, to be looked at, if that was asked for."""
        if self._keep is not None:
            self._keep.mkdir(parents=True, exist_ok=True)
            row = np.concatenate([np.array(each.convert("RGB")) for each in pictures], axis=1)
            Image.fromarray(row).save(self._keep / f"{name}.png")


def flags(doc: str | None, *, pictures: int) -> ArgumentParser:
    """The flags that all have; `doc` is the script's, `pictures` how many it takes by default."""
    parser = ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=pictures)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    parser.add_argument("--keep", type=Path, help="folder for the pictures, side by side")
    return parser


@contextmanager
def opened(asked: Namespace) -> Iterator[Gallery]:
    """The gallery of those flags, in a folder that goes with it."""
    warnings.simplefilter("ignore", DarkroomWarning)
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as scratch:
        yield Gallery(Path(scratch), asked)


def fields(pairs: Sequence[str]) -> Fields:
    """`init.strength=0.9` and the like as the fields of a request."""
    found: Fields = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        *blocks, name = name.split(".")
        inner = found
        for block in blocks:
            inner = inner.setdefault(block, {})
        try:
            inner[name] = json.loads(text)
        except ValueError:
            inner[name] = text
    return found


def table(rows: Sequence[Fields]) -> str:
    """Rows of the same columns, as Markdown."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads)]
    lines += [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put_down(found: Any, path: Path | None) -> None:
    """Write the numbers as JSON where that was asked for."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1))
