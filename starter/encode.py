"""The pool: composed pictures encoded to latents, in shards of a few thousand.

A shard `pool/00007.npz` holds `latents` (N, 4, h, w) float16, already times 0.18215, drawn from
the posterior mean, and `scenes` (N,) records. Shard k depends on k and the VAE alone, so a killed
producer loses nothing but the shard in hand.
"""

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from starter.compose import SCENE, Composer, Integers, Scenes
from starter.networks import autocast, device, trained_vae
from starter.recipe import LATENT_SCALE, WORK, Recipe, chosen, stop_for_now, time_left

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKL

POOL = WORK / "pool"


def shard_path(index: int) -> "Path":
    """Return where shard `index` is kept."""
    return POOL / f"{index:05d}.npz"


@torch.no_grad()
def make_shard(vae: "AutoencoderKL", composer: Composer, index: int, count: int) -> None:
    """Compose and encode one shard; written atomically."""
    rng = np.random.default_rng(40_000 + index)
    where = composer.where
    scenes = composer.draw(rng, count)
    latents = []
    size = 32 if where.type == "cpu" else 250
    for start in range(0, count, size):
        batch = composer.paint(scenes[start : start + size], rng)
        with autocast(where):
            mean = vae.encode(batch).latent_dist.mode()
        latents.append((mean.float() * LATENT_SCALE).cpu().numpy().astype(np.float16))
    part = shard_path(index).with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, latents=np.concatenate(latents), scenes=scenes)
    part.replace(shard_path(index))


def produce(recipe: Recipe) -> None:
    """Make the shards that are missing."""
    POOL.mkdir(exist_ok=True)
    shards = math.ceil(recipe.pool / recipe.shard)
    missing = [index for index in range(shards) if not shard_path(index).exists()]
    if not missing:
        return
    vae, composer, began = trained_vae(recipe), Composer(device()), time.monotonic()
    for done, index in enumerate(missing, start=1):
        make_shard(vae, composer, index, recipe.shard)
        each = (time.monotonic() - began) / done
        left, speed = each * (len(missing) - done), recipe.shard / each
        print(f"pool: shard {index}, {speed:.0f} pictures/s, {left / 60:.1f} min left", flush=True)
        if time_left() < 2 * each and done < len(missing):
            stop_for_now("pool")


class Pool:
    """All shards on disk, their latents on the device; `refresh` picks up new ones."""

    def __init__(self, where: torch.device) -> None:
        """Read what is there."""
        self.where = where
        side = chosen().resolution // 8
        self.latents = torch.empty(0, 4, side, side, dtype=torch.float16, device=where)
        self.scenes: Scenes = np.empty(0, SCENE)
        self.plain: NDArray[np.bool_] = np.empty(0, bool)
        self._shards = 0
        self.refresh()

    def refresh(self) -> None:
        """Read shards that have appeared since."""
        latents, scenes = [self.latents], [self.scenes]
        while (path := shard_path(self._shards)).exists():
            with np.load(path) as shard:
                latents.append(torch.from_numpy(shard["latents"]).to(self.where))
                scenes.append(shard["scenes"])
            self._shards += 1
        if not self._shards:
            raise SystemExit("the pool is empty: run the pool stage first")
        if len(latents) > 1:
            self.latents, self.scenes = torch.cat(latents), np.concatenate(scenes)
            odd = self.scenes["size"] | self.scenes["place"] | self.scenes["quality"]
            self.plain = (self.scenes["other"] < 0) & (odd == 0)

    def rows(self, rng: np.random.Generator, count: int, *, plain_share: float = 0.0) -> Integers:
        """Choose `count` pictures; those that are not plain are passed over with that chance.

        A plain scene is one clean object of usual size in the middle.
        """
        found = np.empty(0, np.int64)
        while len(found) < count:
            more = rng.integers(len(self.scenes), size=2 * count)
            kept = self.plain[more] | (rng.random(len(more)) >= plain_share)
            found = np.concatenate([found, more[kept]])
        return found[:count]


def main() -> None:
    """Make the whole pool."""
    produce(chosen())


if __name__ == "__main__":
    main()
