"""The recipe in a picture's file."""

from darkroom.media.metadata.recipe_chunk import read_recipe, recipe_chunk

__all__ = ["read_recipe", "recipe_chunk"]
