"""The recipe: every number that decides how the starter is made, in one place.

`cpu128` is what two cores can do, `gpu256` the same on a GPU, and `tiny` runs every stage in
seconds, to see that they work. Sizes are in pixels, times in seconds, unless a name says otherwise.
"""

import math
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent
WORK = Path(os.environ.get("DARKROOM_STARTER_WORK", ROOT / ".work"))
PACKAGES = WORK / "packages"

LATENT_SCALE = 0.18215  # SD1's constant; the VAE is rescaled so that it is right here too
OUT_OF_TIME = 75  # exit status of a stage that saved its state and wants to be run again


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything a run needs; a stage reads its own block."""

    name: str
    resolution: int  # px; latents are resolution / 8
    drawn: int = 256  # px at which the emoji are read and repainted

    # Networks
    text_width: int = 192  # heads = width / 64
    text_layers: int = 3
    unet_channels: tuple[int, int, int] = (64, 128, 192)
    vae_channels: tuple[int, int, int, int] = (16, 32, 64, 64)

    # VAE
    vae_seconds: int  # budget; training stops at the first of budget and samples
    vae_samples: int
    vae_batch: int = 8
    vae_crop: int = 64  # px
    vae_rate: float = 1.5e-3
    tune_seconds: int = 2000  # decoder alone, encoder frozen
    tune_batch: int = 4

    # Pool of encoded pictures
    pool: int  # pictures altogether
    shard: int = 2000  # pictures per file

    # Text encoder warm-up on attribute labels
    text_samples: int

    # Classifier
    classifier_samples: int
    classifier_batch: int = 32
    classifier_checked: int = 2000  # fresh real pictures on which it is measured

    # Captioner, which starts as the classifier
    captioner_samples: int = 42_000
    captioner_decoded: int = 4_500  # pictures of the pool, decoded
    captioner_checked: int = 600
    captioner_drawn: int = 200  # by the exported model, with known prompts

    # Denoiser
    samples: int  # pictures seen at which the learning rate has decayed to its floor
    train_seconds: int = 0  # if not 0, the same by time, and `samples` does not count
    first_batch: int  # for the first half of the run: early steps are coarse
    batch: int
    rate: float
    warmup: int = 300  # steps
    dropout: float = 0.1  # captions replaced by the empty one
    balance: float = 0.5  # loss weight is SNR to the minus this
    compile: bool = False  # on CUDA, try torch.compile and keep it if it is faster; takes minutes

    # Evaluation
    evaluated: int = 400  # pictures

    # Upscaler
    upscaler_features: int = 48
    upscaler_layers: int = 8
    upscaler_pictures: int = 1200  # of each kind: composed, leaves; decoded by the VAE a quarter
    upscaler_seconds: int = 3700
    upscaler_batch: int = 8
    upscaler_crop: int = 96  # px, of the larger picture
    upscaler_rate: float = 1.5e-3


RECIPES: dict[str, Recipe] = {
    "cpu128": Recipe(
        name="cpu128",
        resolution=128,
        vae_seconds=1140,
        vae_samples=60_000,
        pool=30_000,
        text_samples=36_000,
        classifier_samples=70_000,
        samples=110_000,
        first_batch=16,
        batch=32,
        rate=7e-4,
    ),
    "gpu256": Recipe(
        name="gpu256",
        resolution=256,
        unet_channels=(80, 160, 240),
        vae_channels=(32, 64, 128, 128),
        vae_seconds=150,
        vae_samples=2_000_000,
        vae_batch=64,
        vae_crop=128,
        tune_seconds=45,
        tune_batch=32,
        pool=80_000,
        text_samples=120_000,
        classifier_samples=120_000,
        classifier_batch=128,
        samples=0,
        train_seconds=600,
        first_batch=256,
        batch=256,
        rate=6e-4,
        evaluated=240,
    ),
    "tiny": Recipe(
        name="tiny",
        resolution=64,
        drawn=64,
        text_width=64,
        text_layers=1,
        unet_channels=(32, 64, 64),
        vae_channels=(16, 16, 16, 16),
        vae_seconds=5,
        vae_samples=640,
        vae_crop=32,
        tune_seconds=3,
        pool=192,
        shard=64,
        text_samples=1280,
        classifier_samples=640,
        classifier_checked=100,
        captioner_samples=128,
        captioner_decoded=60,
        captioner_checked=32,
        captioner_drawn=4,
        samples=640,
        first_batch=16,
        batch=16,
        rate=7e-4,
        warmup=10,
        evaluated=12,
        upscaler_features=16,
        upscaler_layers=2,
        upscaler_pictures=16,
        upscaler_seconds=4,
    ),
}


def chosen() -> Recipe:
    """Return the recipe named by DARKROOM_STARTER_RECIPE, by default the CPU one."""
    recipe = RECIPES[os.environ.get("DARKROOM_STARTER_RECIPE", "cpu128")]
    if minutes := os.environ.get("DARKROOM_STARTER_TRAIN_MINUTES"):
        recipe = replace(recipe, train_seconds=round(60 * float(minutes)))
    return recipe


def cores() -> int:
    """Return how many processes or threads may work at once."""
    given = os.environ.get("DARKROOM_STARTER_THREADS")
    return int(given) if given else os.cpu_count() or 1


def time_left() -> float:
    """Return the seconds until this command must end (DARKROOM_STARTER_DEADLINE, Unix time)."""
    return float(os.environ.get("DARKROOM_STARTER_DEADLINE", math.inf)) - time.time()


def stop_for_now(what: str) -> None:
    """Leave a stage whose state is saved and whose work is not done."""
    print(f"{what}: stopped and saved; run again to go on", flush=True)
    sys.exit(OUT_OF_TIME)
