"""Our own metadata: the recipe as JSON in a PNG text chunk named `darkroom`."""

from pathlib import Path

from PIL import PngImagePlugin

from darkroom.core.errors import BadFile
from darkroom.core.recipe import Recipe
from darkroom.media.metadata.png import text_chunks

KEY = "darkroom"


def recipe_chunk(recipe: Recipe) -> PngImagePlugin.PngInfo:
    """The chunk to save a PNG with; compressed, and UTF-8 whatever the prompt holds."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(KEY, recipe.model_dump_json(), zip=True)
    return info


def read_recipe(path: Path) -> Recipe:
    """The recipe in the picture at `path`; BadFile says why there is none."""
    text = text_chunks(path).get(KEY)
    if text is None:
        raise BadFile(f"{path} holds no Darkroom recipe", hint="Was it made by another tool?")
    return Recipe.from_json(text)
