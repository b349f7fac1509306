"""A finished latent on disk, from the moment sampling ends until its picture is saved.

If decoding fails or the process is killed, the minutes of sampling are not lost:
`darkroom recover` makes the picture from the file.
"""

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.core.recipe import Recipe
from darkroom.media.files import write_whole


def save_latent(latent: Tensor, recipe: Recipe, path: Path) -> None:
    """Write one latent (C, H, W), as the sampler left it, with its recipe."""
    data = safetensors.torch.save(
        {"latent": latent.to("cpu", torch.float32).contiguous()},
        {"recipe": recipe.model_dump_json()},
    )
    write_whole(path, data, lasting=True)


def load_latent(path: Path) -> tuple[Tensor, Recipe]:
    """Read what `save_latent` wrote; BadFile when it is something else."""
    try:
        with safe_open(path, framework="pt") as file:
            recipe = Recipe.from_json((file.metadata() or {}).get("recipe", ""))
            latent = file.get_tensor("latent")
    except (SafetensorError, OSError) as error:
        raise BadFile(f"{path} is not an unfinished picture: {error}") from None
    if latent.ndim != 3 or not bool(torch.isfinite(latent).all()):
        raise BadFile(f"{path} holds no latent of one picture")
    return latent, recipe
