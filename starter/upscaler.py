"""Train the small 2x upscaler: on composed pictures, fallen leaves, and what the VAE decodes.

Pictures are drawn once at twice the size; crops of them are made small in the ways that programs
do it, now and then out of focus or grainy before, or a JPEG after. The small picture of the third
kind has been through the VAE, since that is what the upscaler will be given. Everything is in
`upscaler/` of the work folder: `pool.npz` (pictures), `state.pt` (weights, their average,
optimizer, seconds, written every minute), `upscaler.safetensors` (the average in half precision,
Real-ESRGAN's names), `upscaler.json` (PSNR beside Lanczos). Resumable.
"""

import io
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from darkroom.engine.compact import Compact
from darkroom.weights.topology import CompactDims
from starter.compose import Composer
from starter.leaves import leaves
from starter.networks import (
    autocast,
    device,
    load_state,
    save_state,
    save_weights,
    trained_vae,
)
from starter.recipe import WORK, Recipe, chosen, stop_for_now, time_left

FOLDER = WORK / "upscaler"
DONE = FOLDER / "upscaler.safetensors"
SCALE = 2
EDGE = 4  # px of the small picture whose surroundings are not in the crop
KEPT = 0.999  # of the average at each step
SHARES = {"composed": 0.4, "leaves": 0.45, "decoded": 0.15}  # of the crops
PART = 16  # pictures at a time

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pair:
    """Pictures (N, 3, 2S, 2S) and, where they were made already, their small ones (N, 3, S, S)."""

    large: Pixels
    small: Pixels | None = None


def dims_of(recipe: Recipe) -> CompactDims:
    """Return the network's dimensions."""
    return CompactDims(
        channels=3,
        features=recipe.upscaler_features,
        layers=recipe.upscaler_layers,
        scale=SCALE,
    )


def composed(recipe: Recipe, count: int, *, seed: int) -> Iterator[Tensor]:
    """Compose `count` pictures, parts of (B, 3, D, D) in [0, 1]; D is `recipe.drawn`."""
    composer, rng = Composer(), np.random.default_rng(seed)
    for start in range(0, count, PART):
        scenes = composer.draw(rng, min(PART, count - start))
        scenes["quality"] = 0
        yield composer.paint(scenes, rng).contiguous() / 2 + 0.5


def bytes_of(pictures: Tensor) -> Pixels:
    """Return pictures in [0, 1] as 8 bits."""
    return pictures.mul(255).add(0.5).clamp(0, 255).byte().cpu().numpy()


@torch.no_grad()
def decoded(recipe: Recipe, count: int) -> Pair:
    """Compose pictures and send them, at half their size, through the VAE."""
    vae, where, large, small = trained_vae(recipe), device(), [], []
    for part in composed(recipe, count, seed=43):
        halved = functional.avg_pool2d(part, SCALE).to(where) * 2 - 1
        output = vae.decode(vae.encode(halved).latent_dist.mode()).sample
        large.append(bytes_of(part))
        small.append(bytes_of(output.float() / 2 + 0.5))
    return Pair(np.concatenate(large), np.concatenate(small))


def pool(recipe: Recipe) -> dict[str, Pair]:
    """Return the pictures to learn from, made once."""
    path = FOLDER / "pool.npz"
    if not path.exists():
        count, rng = recipe.upscaler_pictures, np.random.default_rng(44)
        first = np.concatenate([bytes_of(part) for part in composed(recipe, count, seed=42)])
        fallen = np.stack([leaves(rng, recipe.drawn) for _ in range(count)])
        pair = decoded(recipe, max(PART, count // 4))
        made = {"composed": first, "leaves": fallen.transpose(0, 3, 1, 2), "decoded": pair.large}
        part = path.with_name("part.npz")
        np.savez(part, **made, small=np.asarray(pair.small))
        part.replace(path)
        print(f"upscaler: {2 * count + len(pair.large)} pictures drawn", flush=True)
    with np.load(path) as file:
        return {
            name: Pair(file[name], file["small"] if name == "decoded" else None) for name in SHARES
        }


def batch(
    recipe: Recipe, pictures: dict[str, Pair], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return small crops (B, 3, s, s) and the large ones (B, 3, 2s, 2s), in [0, 1]."""
    small, large = [], []
    for kind in rng.choice(list(SHARES), recipe.upscaler_batch, p=list(SHARES.values())):
        pair = pictures[str(kind)]
        one = cropped(pair, int(rng.integers(len(pair.large))), recipe.upscaler_crop, rng)
        turn, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        for into, piece in zip((small, large), one, strict=True):
            turned = piece.rot90(turn, (1, 2))
            into.append(turned.flip(2) if mirrored else turned)
    return _stacked(small), _stacked(large)


def _stacked(crops: list[Tensor]) -> Tensor:
    return torch.stack(crops).to(device()).contiguous(memory_format=torch.channels_last)


def cropped(pair: Pair, index: int, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return one crop, small and large, of a picture."""
    around = side // SCALE + 2 * EDGE
    limit = pair.large.shape[2] // SCALE - around
    top, left = rng.integers(0, limit + 1, 2).tolist() if limit > 0 else (0, 0)
    rows, columns = slice(top * SCALE, (top + around) * SCALE), slice(left * SCALE, None)
    large = tensor_of(pair.large[index, :, rows, columns][:, :, : around * SCALE])
    if pair.small is None:
        large = photographed(large, rng)
        small = compressed(shrunk(large, rng), rng)
    else:
        small = tensor_of(pair.small[index, :, top : top + around, left : left + around])
    inner = SCALE * EDGE
    return small[:, EDGE:-EDGE, EDGE:-EDGE], large[:, inner:-inner, inner:-inner]


def tensor_of(pixels: Pixels) -> Tensor:
    """Return 8 bits (3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / 255)


def shrunk(large: Tensor, rng: np.random.Generator) -> Tensor:
    """Halve a picture (3, H, W), by one of the usual filters."""
    one = large[None]
    kind = rng.choice(["area", "bilinear", "bicubic"], p=[0.25, 0.25, 0.5])
    if kind == "area":
        return functional.avg_pool2d(one, SCALE)[0]
    return functional.interpolate(one, scale_factor=1 / SCALE, mode=str(kind), antialias=True)[0]


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    """Blur (B, 3, H, W) by a Gauss of `sigma` px."""
    reach = torch.arange(-3.0, 4.0)
    weight = (-0.5 * (reach / sigma) ** 2).exp()
    weight = (weight / weight.sum()).repeat(3, 1)
    for shape, pad in (((3, 1, 7, 1), (0, 0, 3, 3)), ((3, 1, 1, 7), (3, 3, 0, 0))):
        padded = functional.pad(pictures, pad, mode="replicate")
        pictures = functional.conv2d(padded, weight.reshape(shape), groups=3)
    return pictures


def photographed(large: Tensor, rng: np.random.Generator) -> Tensor:
    """Make a picture (3, H, W) as a camera may: now and then out of focus, now and then grainy.

    Both belong to the picture: what is soft is not to be sharpened, nor grain to be smoothed.
    """
    if rng.random() < 0.35:
        large = blurred(large[None], rng.uniform(0.4, 1.6))[0]
    if rng.random() < 0.35:
        one_colour = rng.random() < 0.5
        shape = large.shape[1:] if one_colour else large.shape
        grain = rng.normal(0, rng.uniform(0, 9 / 255), shape)
        large = (large + torch.from_numpy(grain).float()).clamp(0, 1)
    return large


def compressed(small: Tensor, rng: np.random.Generator) -> Tensor:
    """Round to 8 bits, now and then by way of a JPEG."""
    pixels = bytes_of(small)
    if rng.random() < 0.06:
        store = io.BytesIO()
        quality = int(rng.integers(75, 97))
        Image.fromarray(pixels.transpose(1, 2, 0)).save(store, "JPEG", quality=quality)
        pixels = np.asarray(Image.open(store)).transpose(2, 0, 1)
    return tensor_of(pixels)


@dataclass
class Run:
    """What a training run consists of, and what is saved of it."""

    network: Compact
    average: Compact
    optimizer: torch.optim.Optimizer
    spent: float = 0.0  # seconds
    seen: int = 0  # crops

    @classmethod
    def begun(cls, recipe: Recipe) -> "Run":
        """Start, or go on where the state file says."""
        torch.manual_seed(7)
        network, average = (Compact(dims_of(recipe)).to(device()) for _ in range(2))
        for value in network.body[-1].parameters():
            nn.init.normal_(value, std=1e-3)  # begin at the repeated pixels
        average.load_state_dict(network.state_dict())
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.99))
        run = cls(network, average.requires_grad_(False), optimizer)
        if state := load_state(FOLDER / "state.pt"):
            for name in ("network", "average", "optimizer"):
                getattr(run, name).load_state_dict(state[name])
            run.spent, run.seen = state["spent"], state["seen"]
        return run

    def save(self) -> None:
        """Write the state file."""
        state: dict[str, Any] = {"spent": self.spent, "seen": self.seen}
        for name in ("network", "average", "optimizer"):
            state[name] = getattr(self, name).state_dict()
        save_state(FOLDER / "state.pt", state)

    def step(self, small: Tensor, large: Tensor, rate: float) -> float:
        """Learn from one batch; return its mean squared error."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with autocast(small.device):
            output = self.network(small).float()
        difference = output - large
        (difference.square() + 1e-6).sqrt().mean().backward()  # Charbonnier's penalty
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seen += len(small)
        kept = min(KEPT, self.seen / (self.seen + 20 * len(small)))
        with torch.no_grad():
            for mean, value in zip(
                self.average.parameters(), self.network.parameters(), strict=True
            ):
                mean.lerp_(value, 1 - kept)
        return float(difference.detach().square().mean())


def train(recipe: Recipe) -> None:
    """Train for the seconds of the recipe; prints a line a minute."""
    pictures, run = pool(recipe), Run.begun(recipe)
    rng, said, errors = np.random.default_rng(9000 + run.seen), run.spent, []
    while run.spent < recipe.upscaler_seconds:
        began = time.monotonic()
        share = run.spent / recipe.upscaler_seconds
        rate = min(1, share / 0.01 + 0.02) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        errors.append(run.step(*batch(recipe, pictures, rng), rate * recipe.upscaler_rate))
        run.spent += time.monotonic() - began
        if run.spent - said > 60:
            decibels = -10 * math.log10(float(np.mean(errors)))
            told = f"{run.spent:.0f}/{recipe.upscaler_seconds} s  {run.seen} crops"
            print(f"upscaler {told}  {decibels:.2f} dB", flush=True)
            said, errors = run.spent, []
            run.save()
        if time_left() < 0:
            run.save()
            stop_for_now("upscaler")
    run.save()


@torch.no_grad()
def measured(recipe: Recipe, network: Compact) -> dict[str, float]:
    """Return the mean PSNR in dB on 64 pictures never trained on, and that of Lanczos."""
    ours, lanczos = [], []
    for part in composed(recipe, 64, seed=777_777):
        for large in bytes_of(part).transpose(0, 2, 3, 1):
            whole = Image.fromarray(large)
            small = whole.resize((whole.width // SCALE,) * 2, Image.Resampling.BICUBIC)
            pixels = tensor_of(np.asarray(small).transpose(2, 0, 1))[None].to(device())
            ours.append(psnr(bytes_of(network(pixels))[0].transpose(1, 2, 0), large))
            larger = small.resize(whole.size, Image.Resampling.LANCZOS)
            lanczos.append(psnr(np.asarray(larger), large))
    return {"psnr": float(np.mean(ours)), "psnr_lanczos": float(np.mean(lanczos))}


def psnr(first: Pixels, second: Pixels) -> float:
    """Return the PSNR in dB of two pictures of 8 bits."""
    square = float(np.mean((first.astype(np.float64) - second) ** 2))
    return 10 * math.log10(255**2 / max(square, 1e-6))


def finish(recipe: Recipe) -> None:
    """Measure the average and write it."""
    network = Run.begun(recipe).average
    facts = {name: round(value, 2) for name, value in measured(recipe, network).items()}
    print(f"upscaler: {facts['psnr']} dB, Lanczos {facts['psnr_lanczos']} dB", flush=True)
    (FOLDER / "upscaler.json").write_text(json.dumps(facts, indent=1))
    save_weights(DONE, {key: value.half() for key, value in network.state_dict().items()})


def main() -> None:
    """Train and finish unless done."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not DONE.exists():
        train(chosen())
        finish(chosen())


if __name__ == "__main__":
    main()
