"""Darkroom as a library.

    studio = Studio()
    picture = studio.txt2img("a red apple", steps=30, seed=7)
    picture.save("apple.png")
    picture.recipe.seed

The same requests, engine and files as the command line; errors are the tree in `core.errors`.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from darkroom.core.errors import BadRequest, from_event
from darkroom.core.recipe import Recipe
from darkroom.core.request import ImageRequest, Request
from darkroom.core.settings import Configured
from darkroom.jobs.worker import Worker
from darkroom.media.files import write_whole
from darkroom.media.metadata import read_recipe


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture and how it was made."""

    image: Image.Image
    recipe: Recipe
    png: bytes  # the file, with the recipe inside

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the PNG to `path`; a file that is there stays unless `overwrite`."""
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise BadRequest(f"cannot write {path.name!r}: pictures are saved as PNG")
        if path.exists() and not overwrite:
            raise BadRequest(f"{path} exists already", hint="Choose another name.")
        write_whole(path, self.png, lasting=True)
        return path


class Studio:
    """Models stay loaded between calls. `settings` are those of `darkroom --help`."""

    def __init__(self, **settings: Any) -> None:
        self._worker = Worker(Configured.load_here(settings).values)

    def txt2img(self, prompt: str, **fields: Any) -> Picture:
        """One picture; `fields` are those of ImageRequest."""
        request = ImageRequest.parse({"prompt": prompt, **fields})
        if request.count != 1:
            raise BadRequest("txt2img makes one picture", hint="Use Studio.run for more.")
        return next(self.run(request))

    def run(self, request: Request) -> Iterator[Picture]:
        """The pictures of `request`, each as soon as it is finished."""
        with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
            for event in self._worker.run(request, output=Path(folder)):
                if event.kind == "artifact":
                    yield _read(Path(event.data["path"]))
                elif event.kind == "failed":
                    raise from_event(event.data)


def _read(path: Path) -> Picture:
    with Image.open(path) as image:
        image.load()
        return Picture(image.copy(), read_recipe(path), path.read_bytes())
