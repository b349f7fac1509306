"""Sharpen the decoder alone: the encoder, and with it every latent of the pool, stays as it is.

Whole pictures, and the logarithm of each one's squared error, which is its PSNR: plain pictures
count as much as busy ones. Writes `vae_tuned.safetensors` (the old
weights where the PSNR has not risen), and keeps the latent-to-RGB rows, which depend on the encoder
only. Resumable.
"""

import json
import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from starter.compose import Composer
from starter.networks import (
    autocast,
    device,
    load_state,
    save_state,
    save_weights,
    trained_vae,
)
from starter.recipe import WORK, Recipe, chosen, stop_for_now, time_left
from starter.vae import held_out_pictures, psnr

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

STATE = WORK / "tune_state.pt"
FIRST = WORK / "vae.safetensors"
DONE = WORK / "vae_tuned.safetensors"


def tune(recipe: Recipe) -> None:
    """Train `decoder` and `post_quant_conv` for the seconds of the recipe, then measure."""
    where = device()
    vae = trained_vae(recipe, FIRST)
    learned = [vae.decoder, vae.post_quant_conv]
    parameters = [p for part in learned for p in part.requires_grad_(True).parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-4, betas=(0.9, 0.99), fused=True)
    spent, seen = 0.0, 0
    if state := load_state(STATE):
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        spent, seen = state["spent"], state["seen"]
    composer, rng = Composer(where), np.random.default_rng(500_000 + seen)
    said = spent
    errors: list[Tensor] = []
    while spent < recipe.tune_seconds:
        began = time.monotonic()
        share = spent / recipe.tune_seconds
        for group in optimizer.param_groups:
            group["lr"] = (
                8e-4 * min(1, share * 50 + 0.02) * (0.52 + 0.48 * math.cos(math.pi * share))
            )
        pictures = composer.paint(composer.draw(rng, recipe.tune_batch), rng)
        with autocast(where):
            with torch.no_grad():
                latents: Tensor = vae.encode(pictures).latent_dist.mode()
            output = vae.decode(latents).sample.float()
        squares = (output - pictures).square().mean((1, 2, 3))
        (squares + 1e-4).log().mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        errors.append(squares.detach())
        seen += recipe.tune_batch
        spent += time.monotonic() - began
        if spent - said > 60:
            decibels = float((10 * (4 / torch.cat(errors)).log10()).mean())
            print(f"tune {spent:.0f}/{recipe.tune_seconds} s {decibels:.2f} dB", flush=True)
            said, errors = spent, []
            save_state(STATE, _state(vae, optimizer, spent, seen))
        if time_left() < 0:
            save_state(STATE, _state(vae, optimizer, spent, seen))
            stop_for_now("tune")
    finish(recipe, vae.requires_grad_(False))


def _state(
    vae: nn.Module, optimizer: torch.optim.Optimizer, spent: float, seen: int
) -> dict[str, object]:
    return {
        "vae": vae.state_dict(),
        "optimizer": optimizer.state_dict(),
        "spent": spent,
        "seen": seen,
    }


def finish(recipe: Recipe, vae: "AutoencoderKL") -> None:
    """Write the tuned weights where they are better."""
    pictures = held_out_pictures(128)
    before, after = psnr(trained_vae(recipe, FIRST), pictures), psnr(vae, pictures)
    print(f"tune: {before:.2f} dB before, {after:.2f} dB after", flush=True)
    best = vae if after > before else trained_vae(recipe, FIRST)
    facts = json.loads((WORK / "vae.json").read_text())
    facts["psnr_tuned"] = round(max(before, after), 3)
    (WORK / "vae.json").write_text(json.dumps(facts, indent=1))
    save_weights(DONE, best.state_dict())


def main() -> None:
    """Run unless done."""
    if not DONE.exists():
        tune(chosen())


if __name__ == "__main__":
    main()
