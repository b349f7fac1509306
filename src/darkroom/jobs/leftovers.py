"""What a series that was killed had sampled and not saved, once it is made after all.

`darkroom recover` would make those pictures a second time.
"""

from contextlib import suppress
from pathlib import Path

from darkroom.core.errors import BadFile
from darkroom.core.recipe import Recipe
from darkroom.media.left_behind import LOCK, left_behind, remove_if_empty
from darkroom.media.lock import hold
from darkroom.media.metadata import read_recipe
from darkroom.weights.header import read_header


class Leftovers:
    """The latents that had been left behind in `folder` before a series began."""

    def __init__(self, folder: Path) -> None:
        self._paths = _by_request(folder)

    def made(self, picture: Path) -> None:
        """Forget the latent of a picture that is saved now; one without a recipe has none."""
        if not self._paths:
            return
        try:
            latent = self._paths.pop(_key(read_recipe(picture)), None)
        except BadFile:
            return
        if latent is None:
            return
        with suppress(FileNotFoundError), hold(latent.parent / LOCK) as ours:
            if ours:  # else `recover` is at work there, or was
                latent.unlink()
                remove_if_empty(latent.parent)


def _by_request(folder: Path) -> dict[str, Path]:
    found = {}
    for path in left_behind(folder):
        try:
            told = read_header(path).metadata.get("recipe", "")
            found[_key(Recipe.from_json(told))] = path
        except BadFile:
            continue
    return found


def _key(recipe: Recipe) -> str:
    """Equal for recipes of the same picture."""
    return recipe.again().model_dump_json()
