"""Darkroom as a library.

    studio = Studio()
    picture = studio.txt2img("a red apple", steps=30, seed=7)
    picture.save("apple.png")
    picture.recipe.seed
    studio.img2img(picture, "a green pear", strength=0.6)
    studio.inpaint("photo.png", "a cat", mask={"image": "mask.png"})
    studio.upscale(picture, scale=4)

Pictures are handed in as a path, a PIL image, or a `Picture` of before.

The same requests, engine and files as the command line; errors are the tree in `core.errors`, and
what the command line shows as a note is a DarkroomWarning. Pictures are in memory until `save`.

In a program that also uses diffusers with accelerate, peft or xformers, or that starts threads:
import diffusers before the first picture is made here. Otherwise our own import of its network
classes, which hides those packages for a moment, leaves them unknown to it (`engine.imports`).
"""

import tempfile
import warnings
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from darkroom.core.blocks import Init
from darkroom.core.errors import BadRequest, DarkroomWarning, from_event
from darkroom.core.processing import CutoutRequest, UpscaleRequest
from darkroom.core.recipe import Recipe
from darkroom.core.request import ImageRequest
from darkroom.core.series import Request
from darkroom.core.settings import Configured, Settings, expanded
from darkroom.jobs.worker import Worker
from darkroom.media.files import SUFFIXES, make_folder, publish, write_whole
from darkroom.media.image import Saving, encode
from darkroom.media.metadata import read_recipe

_OF_FILES = frozenset(
    {"outputs_dir", "preview", "preview_seconds"}
    | {name for name in Settings.model_fields if name.startswith("image_")}
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture and how it was made."""

    image: Image.Image
    recipe: Recipe
    png: bytes  # the file, with the recipe inside

    def save(self, path: str | Path, *, overwrite: bool = False, quality: int = 90) -> Path:
        """Write the picture to `path`, as PNG, JPEG, WebP or AVIF by the end of its name.

        A file that is there stays unless `overwrite`. `quality` (1 to 100) is not for PNG.
        """
        path = expanded(Path(path))
        kind = SUFFIXES.get(path.suffix.lower())
        if kind is None:
            raise BadRequest(
                f"cannot write {path.name!r}: there is no such kind of picture",
                hint=f"Give a name that ends in {', '.join(SUFFIXES)}.",
            )
        data = self.png
        if kind != "png":
            data = encode(self.image, self.recipe, Saving(format=kind, quality=quality))
        if overwrite:
            write_whole(path, data, lasting=True)
            return path
        make_folder(path.parent)
        return publish(iter([path]), data)


Given = Picture | Image.Image | Path | str


class Studio:
    """Models stay loaded between calls. `settings` are those of `core.settings`, but of files."""

    def __init__(self, **settings: Any) -> None:
        for name in settings.keys() & _OF_FILES:
            raise BadRequest(
                f"{name} has no effect on a Studio: its pictures are in memory",
                hint="Picture.save writes one to a file.",
            )
        # Nobody could see a preview, and what is read back shall lose nothing.
        ours = {"image_format": "png", "image_metadata": True, "image_stealth": False}
        ours |= {"preview": "off", "preview_seconds": 0}
        self._worker = Worker(Configured.load_here(settings | ours).values)

    def txt2img(self, prompt: str, **fields: Any) -> Picture:
        """One picture; `fields` are those of ImageRequest."""
        return self._one(ImageRequest.parse({"prompt": prompt, **fields}))

    def img2img(self, picture: Given, prompt: str, **fields: Any) -> Picture:
        """One picture from `picture`; `fields` are those of ImageRequest and of its `init`."""
        return self._one(ImageRequest.parse(self._begun(picture, prompt, fields)))

    def inpaint(self, picture: Given, prompt: str, **fields: Any) -> Picture:
        """`img2img` of a part: `mask` is a picture whose white is painted anew, or that block.

        Without one it is what is transparent in `picture`.
        """
        asked = self._begun(picture, prompt, fields)
        mask = asked.get("mask", {})
        asked["mask"] = mask if isinstance(mask, dict) else {"image": self._source(mask)}
        return self._one(ImageRequest.parse(asked))

    def outpaint(self, picture: Given, prompt: str, **fields: Any) -> Picture:
        """`img2img` beyond the borders: `outpaint` is that block, such as {"left": 128}."""
        return self._one(ImageRequest.parse(self._begun(picture, prompt, fields)))

    def upscale(self, picture: Given, **fields: Any) -> Picture:
        """A larger picture; `fields` are those of UpscaleRequest."""
        return self._one(UpscaleRequest.parse({"image": self._source(picture), **fields}))

    def cutout(self, picture: Given, **fields: Any) -> Picture:
        """A picture without its background; `fields` are those of CutoutRequest."""
        return self._one(CutoutRequest.parse({"image": self._source(picture), **fields}))

    def keep(self, picture: Given) -> str:
        """Keep a picture with the others; what any field of a request may call it by."""
        return self._source(picture)

    def _begun(self, picture: Given, prompt: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request that begins with a picture, those of its block put into it."""
        own = {name: fields[name] for name in Init.model_fields if name in fields}
        rest = {name: value for name, value in fields.items() if name not in own}
        return {"prompt": prompt, **rest, "init": {**own, "image": self._source(picture)}}

    def _source(self, picture: Given) -> str:
        if isinstance(picture, Picture):
            return self._worker.keep(picture.image)
        if isinstance(picture, Image.Image):
            return self._worker.keep(picture)
        return str(picture)

    def _one(self, request: Request) -> Picture:
        """The only picture of a request."""
        if getattr(request, "count", 1) != 1:
            raise BadRequest("one picture is made here", hint="Use Studio.run for more.")
        with closing(self.run(request)) as pictures:
            return next(pictures)

    def run(self, request: Request) -> Generator[Picture, None, None]:
        """The pictures of `request`, each as soon as it is finished."""
        with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
            for event in self._worker.run(request, output=Path(folder)):
                if event.kind == "artifact":
                    yield _read(Path(event.data["path"]))
                elif event.kind == "warning":
                    warnings.warn(event.data["text"], DarkroomWarning, stacklevel=2)
                elif event.kind == "failed":
                    raise from_event(event.data)


def _read(path: Path) -> Picture:
    with Image.open(path) as image:
        image.load()
        return Picture(image.copy(), read_recipe(path), path.read_bytes())
