"""The starter's captioner: the judge's network, taught on what users show it.

The judge (classifier.py) sees clean composed pictures only, as a fair judge must. A captioner is
shown what the model draws, photographed once more: blurred by the VAE, saved as JPEG, scaled. So
its weights start as the judge's and go on with composed pictures that are mildly spoiled, and with
the pool's latents decoded, some of them roughened, whose labels are known as well. It also learns
to say when an object has no colour of its own.

Writes `captioner.safetensors` (half precision, the names of the classes in its metadata) and
`captioner.json`: the share right on held-out composed and decoded pictures, and on pictures drawn
by the exported starter, against their prompts. B batch, S resolution in px.
"""

import argparse
import io
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from darkroom.engine.caption.starter import HEADS, SIDE, UNNAMED, Sight, Words
from starter.captions import PLURALS
from starter.compose import GROUNDS, Composer, Integers, Scenes
from starter.encode import Pool
from starter.evaluate import STYLE_WORDS, Prompt, pictures, prompts
from starter.networks import device, load_state, save_state, save_weights, trained_vae
from starter.objects_table import COLOURS, OBJECTS
from starter.recipe import LATENT_SCALE, WORK, Recipe, chosen, stop_for_now, time_left

LIMIT = 3_000_000  # bytes
RATE = 6e-4  # learning rate at the start; it falls to nothing
# Of 3d, flat, line art and pixel art. Flat is learnt from more often than the model draws it; pixel
# art is not, for the VAE blurs its blocks away, and what is unclear had better be called 3d.
STYLE_SHARES = (0.5, 0.26, 0.12, 0.12)
HELD_BACK = 1 / 15  # of the pool, at its end
DRAWN_SEED = 27_182  # of the prompts and pictures on which it is measured
WORDS = Words(
    {
        "object": [thing.name for thing in OBJECTS],
        "colour": [*COLOURS, UNNAMED],
        "background": GROUNDS,
        "style": STYLE_WORDS,
    },
    frozenset(PLURALS),
)
FIELDS = {"object": "thing", "colour": "colour", "background": "ground", "style": "style"}

Labels = dict[str, Tensor]
Facts = dict[str, dict[str, float]]


def labels_of(composer: Composer, scenes: Scenes) -> Labels:
    """Return the class of each scene for every head, (B,)."""
    colours = composer.colours(*(scenes[name] for name in ("thing", "colour", "style")))
    found = {
        "object": scenes["thing"],
        "colour": np.where(colours < 0, len(COLOURS), colours),
        "background": scenes["ground"],
        "style": scenes["style"],
    }
    return {name: torch.from_numpy(found[name].astype(np.int64)) for name in HEADS}


def single(scenes: Scenes) -> NDArray[np.bool_]:
    """Say which scenes show one object, unspoiled."""
    alone: NDArray[np.bool_] = (scenes["other"] < 0) & (scenes["quality"] == 0)
    return alone


def composed(
    composer: Composer, rng: np.random.Generator, count: int, *, seen: bool = True
) -> tuple[Tensor, Labels]:
    """Return fresh pictures (B, 3, S, S) in [-1, 1], mildly spoiled if they are to be `seen`."""
    scenes = composer.draw(rng, 8 * count, unseen=True)
    scenes = scenes[single(scenes)]
    scenes = scenes[sampled(scenes["style"], rng, count)]
    made = functional.adaptive_avg_pool2d(composer.paint(scenes, rng), SIDE)
    return spoiled(made, rng) if seen else made, labels_of(composer, scenes)


def spoiled(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """Return pictures as they come back from the world: moved, scaled, soft, rough or as JPEG."""
    count = len(batch)

    def some(share: float, most: float) -> Tensor:
        drawn = rng.uniform(0, most, count) * (rng.random(count) < share)
        return torch.from_numpy(drawn.astype(np.float32)).view(-1, 1, 1, 1)

    batch = _moved(batch, rng)
    soft = functional.avg_pool2d(batch, 3, 1, 1, count_include_pad=False)
    batch = torch.lerp(batch, soft, some(0.4, 0.9))
    if rng.random() < 0.2:
        small = functional.interpolate(batch, size=int(rng.integers(SIDE // 2, SIDE)), mode="area")
        batch = functional.interpolate(small, size=SIDE, mode="bilinear")
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    batch = batch + torch.randn(batch.shape, generator=generator) * some(0.3, 0.08)
    batch = batch * (1 + some(0.3, 0.1) - some(0.3, 0.1)) + some(0.3, 0.06) - some(0.3, 0.06)
    for row in np.flatnonzero(rng.random(count) < 0.1).tolist():
        batch[row] = _compressed(batch[row], int(rng.integers(30, 90)))
    return batch.clamp(-1, 1)


def _moved(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """Return pictures a little larger or shifted; what comes in is what the border has."""
    scale = rng.uniform(0.88, 1.04, len(batch))
    grid = np.zeros((len(batch), 2, 3), np.float32)
    grid[:, 0, 0] = grid[:, 1, 1] = scale
    grid[:, :, 2] = rng.normal(0, 0.03, (len(batch), 2))
    places = functional.affine_grid(torch.from_numpy(grid), list(batch.shape), align_corners=False)
    return functional.grid_sample(batch, places, padding_mode="border", align_corners=False)


def _compressed(picture: Tensor, quality: int) -> Tensor:
    store = io.BytesIO()
    pixels = ((picture.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    Image.fromarray(pixels).save(store, "JPEG", quality=quality)
    back = torch.from_numpy(np.asarray(Image.open(store)).copy())
    return back.permute(2, 0, 1) / 127.5 - 1


def sampled(styles: NDArray[np.integer[Any]], rng: np.random.Generator, count: int) -> Integers:
    """Return rows whose styles are as frequent as STYLE_SHARES says."""
    among = np.maximum(np.bincount(styles, minlength=len(STYLE_SHARES)), 1)
    shares = (np.array(STYLE_SHARES) / among)[styles]
    return rng.choice(len(styles), count, p=shares / shares.sum())


class Decoded:
    """Pictures that went through the VAE, with their labels; made once."""

    def __init__(self, recipe: Recipe, composer: Composer) -> None:
        """Read them, or make them from the pool."""
        path = WORK / "captioner_decoded.npz"
        if not path.exists():
            _decode(recipe, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        with np.load(path) as file:
            self.pictures, scenes = torch.from_numpy(file["pictures"]), file["scenes"]
        self.labels = labels_of(composer, scenes)
        self.first_held = len(scenes) - round(HELD_BACK * len(scenes))
        self._styles = scenes["style"]

    def some(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Labels]:
        """Return some of those that are learnt from."""
        return self.rows(sampled(self._styles[: self.first_held], rng, count))

    def rows(self, rows: Integers) -> tuple[Tensor, Labels]:
        """Return some of them, (B, 3, S, S) in [-1, 1]."""
        chosen_rows = torch.from_numpy(rows)
        labels = {name: label[chosen_rows] for name, label in self.labels.items()}
        return self.pictures[chosen_rows] / 127.5 - 1, labels


@torch.no_grad()
def _decode(recipe: Recipe, path: Path) -> None:
    """Decode some of the pool; every second latent is roughened first, as a sampler leaves it."""
    pool, vae, where = Pool(torch.device("cpu")), trained_vae(recipe), device()
    rows = np.flatnonzero(single(pool.scenes))
    rows = rows[:: max(1, len(rows) // recipe.captioner_decoded)][: recipe.captioner_decoded]
    generator, made = torch.Generator().manual_seed(8), []
    for part in np.array_split(rows, math.ceil(len(rows) / 32)):
        latents = pool.latents[part].float()
        rough = torch.rand(len(part), 1, 1, 1, generator=generator) * 0.25
        rough[::2] = 0
        latents = latents + torch.randn(latents.shape, generator=generator) * rough
        decoded = vae.decode(latents.to(where) / LATENT_SCALE).sample.float().cpu()
        small = functional.adaptive_avg_pool2d(decoded, SIDE)
        made.append(((small + 1) * 127.5).round().clamp(0, 255).byte())
    with path.open("wb") as file:
        np.savez(file, pictures=torch.cat(made).numpy(), scenes=pool.scenes[rows])


def begun() -> Sight:
    """Return the judge's network under the captioner's names, with a class for "no colour"."""
    sight = Sight({name: len(WORDS.classes[name]) for name in HEADS})
    judge = load_file(WORK / "classifier.safetensors")
    for name, field in FIELDS.items():
        for part in ("weight", "bias"):
            judge[f"heads.{name}.{part}"] = judge.pop(f"heads.{field}.{part}")
    for part in ("weight", "bias"):
        rows = judge[f"heads.colour.{part}"]
        judge[f"heads.colour.{part}"] = torch.cat([rows, rows.mean(0, keepdim=True)])
    sight.load_state_dict(judge)
    return sight


def train(recipe: Recipe) -> Sight:
    """Train to the budget, resumable."""
    path = WORK / "captioner_state.pt"
    torch.manual_seed(37)
    composer = Composer()
    decoded = Decoded(recipe, composer)
    sight, seen = begun(), 0
    optimizer = torch.optim.AdamW(sight.parameters(), lr=RATE, weight_decay=0.02)
    if state := load_state(path):
        sight.load_state_dict(state["sight"])
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
    rng = np.random.default_rng(90_000 + seen)
    said, began, start, half = (
        time.monotonic(),
        time.monotonic(),
        seen,
        recipe.classifier_batch // 2,
    )
    while seen < recipe.captioner_samples:
        share = seen / recipe.captioner_samples
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, share * 30 + 0.03) * (0.5 + 0.5 * math.cos(math.pi * share))
        first = composed(composer, rng, half)
        second, labels = decoded.some(rng, half)
        loss = _loss(sight, torch.cat([first[0], spoiled(second, rng)]), _joined(first[1], labels))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += 2 * half
        state = {"sight": sight.state_dict(), "optimizer": optimizer.state_dict(), "seen": seen}
        if time_left() < 0:
            save_state(path, state)
            stop_for_now("captioner")
        if time.monotonic() - said > 30:
            said = time.monotonic()
            left = (said - began) / (seen - start) * (recipe.captioner_samples - seen) / 60
            print(f"captioner: {seen} loss {loss.item():.3f}, {left:.1f} min left", flush=True)
            save_state(path, state)
    return sight.eval()


def _joined(first: Labels, second: Labels) -> Labels:
    return {name: torch.cat([first[name], second[name]]) for name in HEADS}


def _loss(sight: Sight, batch: Tensor, labels: Labels) -> Tensor:
    logits = sight(batch)
    losses = [
        functional.cross_entropy(logits[name], labels[name], label_smoothing=0.03) for name in HEADS
    ]
    return torch.stack(losses).sum()


@torch.no_grad()
def right(sight: Sight, pictures: Tensor, labels: Labels) -> dict[str, float]:
    """Return the share right per head, over pictures whose label is known (not -1)."""
    shares = {}
    for name in HEADS:
        known = labels[name] >= 0
        found = torch.cat([sight(part)[name].argmax(1) for part in pictures.split(50)])
        if known.any():
            shares[name] = round(float((found == labels[name])[known].float().mean()), 4)
    return shares


def asked(wanted: list[Prompt]) -> Labels:
    """Return what prompts ask for; -1 where they do not say."""
    return {
        name: torch.tensor([getattr(prompt, FIELDS[name]) for prompt in wanted]) for name in HEADS
    }


def measure(sight: Sight, recipe: Recipe) -> Facts:
    """Return the shares right on composed, decoded and drawn pictures that it never saw."""
    composer, rng = Composer(), np.random.default_rng(999_999)
    decoded = Decoded(recipe, composer)
    held = np.arange(decoded.first_held, len(decoded.pictures))
    facts = {
        "composed": right(sight, *composed(composer, rng, recipe.captioner_checked, seen=False)),
        "spoiled": right(sight, *composed(composer, rng, recipe.captioner_checked)),
        "decoded": right(sight, *decoded.rows(held)),
    }
    wanted = prompts(recipe.captioner_drawn, DRAWN_SEED)
    facts["drawn"] = right(sight, drawn(wanted), asked(wanted))
    return facts


def drawn(wanted: list[Prompt]) -> Tensor:
    """Return what the exported model makes of prompts, (B, 3, S, S) in [-1, 1]; made once."""
    path = WORK / "captioner_drawn.safetensors"
    if not path.exists():
        texts = [prompt.text for prompt in wanted]
        made, _ = pictures(WORK / "starter.safetensors", texts, DRAWN_SEED)
        if len(made) < len(wanted):
            stop_for_now("captioner")
        small = functional.adaptive_avg_pool2d(made, SIDE)
        save_weights(path, {"pictures": ((small + 1) * 127.5).round().byte()})
    return load_file(path)["pictures"] / 127.5 - 1


def main() -> None:
    """Train unless done, export, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="only measure what is there")
    only_measure = parser.parse_args().measure
    recipe, target = chosen(), WORK / "captioner.safetensors"
    device()  # threads as the recipe says
    if not only_measure and not target.exists():
        half = {
            name: value.half() if value.is_floating_point() else value
            for name, value in train(recipe).state_dict().items()
        }
        save_weights(target, half, WORDS.metadata())
        if target.stat().st_size > LIMIT:
            raise SystemExit(f"{target} is larger than {LIMIT} bytes")
    sight = Sight({name: len(WORDS.classes[name]) for name in HEADS})
    sight.load_state_dict(load_file(target))
    facts = measure(sight.eval(), recipe)
    (WORK / "captioner.json").write_text(json.dumps(facts, indent=1))
    print(f"captioner: {facts}", flush=True)


if __name__ == "__main__":
    main()
