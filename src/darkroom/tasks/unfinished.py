"""Finished latents of a running job that are not pictures yet (`media.left_behind`: the rest)."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from darkroom.core.errors import OutputError
from darkroom.core.recipe import Recipe
from darkroom.engine.latent_file import save_latent
from darkroom.media.left_behind import LOCK, SUFFIX, remove_if_empty
from darkroom.media.lock import hold


class Unfinished:
    """The latents of one job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, latent: Tensor, recipe: Recipe) -> None:
        """Put a latent (C, H, W) on the disk; OutputError when that cannot be."""
        save_latent(latent, recipe, self._path(recipe.image))

    def kept(self, image: int) -> bool:
        """Whether the latent of that picture is on the disk."""
        return self._path(image).exists()

    def done(self, image: int) -> None:
        """The picture is saved: its latent is no longer needed."""
        with suppress(OSError):  # there is none where it could not be kept
            self._path(image).unlink()

    def _path(self, image: int) -> Path:
        return self.folder / f"{image:05}{SUFFIX}"


@contextmanager
def opened(folder: Path) -> Iterator[Unfinished]:
    """The folder of a job that runs in this process; it goes when nothing is left in it.

    Without a place for it the job runs all the same: `keep` says why.
    """
    try:
        folder.mkdir(parents=True)
        lock = folder / LOCK
        lock.touch()
    except OSError:
        yield Unfinished(folder)
        return
    try:
        with hold(lock):
            yield Unfinished(folder)
    finally:
        remove_if_empty(folder)  # after a cancel too


def save_or_say(unfinished: Unfinished, latent: Tensor, recipe: Recipe) -> str | None:
    """Keep a latent; where that cannot be, words for the user, and the picture is made anyway."""
    try:
        unfinished.keep(latent, recipe)
    except (OutputError, MemoryError) as error:
        why = str(error) or "memory ran out"
        return f"{why}; a kill before the picture is saved would lose it (see --data-dir)"
    return None
