"""Train the VAE on crops of composed pictures, then rescale it to SD1's latent constant.

Writes `vae.safetensors` (diffusers keys) and `vae.json` (PSNR, latent-to-RGB rows). Resumable:
`vae_state.pt` holds weights, optimizer and elapsed seconds, written every minute.
"""

import json
import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from starter.compose import Composer
from starter.networks import (
    autocast,
    build_vae,
    device,
    frozen,
    load_state,
    save_state,
    save_weights,
)
from starter.recipe import LATENT_SCALE, WORK, Recipe, chosen, stop_for_now, time_left

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

KL_WEIGHT = 5e-6  # on the mean over latent elements
CROPS = 2  # crops per picture


def crops(
    composer: Composer, rng: np.random.Generator, recipe: Recipe, whole_share: float
) -> Tensor:
    """Return random crops of fresh pictures, or fewer whole ones of as many pixels."""
    side, crop, count = recipe.resolution, recipe.vae_crop, recipe.vae_batch
    if rng.random() < whole_share:  # norms and attention must see their true size too
        whole = max(1, count * crop * crop // (side * side))
        return composer.paint(composer.draw(rng, whole), rng)
    pieces = []
    for picture in composer.paint(composer.draw(rng, count // CROPS), rng):
        for top, left in rng.integers(0, side - crop + 1, (CROPS, 2)).tolist():
            pieces.append(picture[:, top : top + crop, left : left + crop])
    return torch.stack(pieces).contiguous(memory_format=torch.channels_last)


def loss_of(vae: "AutoencoderKL", glance: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return the training loss and the plain mean squared error (range [-1, 1]).

    `glance`, one linear map from latents to coarse colours, is there because all three colour axes
    must be in the latents early: without it one of them stays away for thousands of steps.
    """
    posterior = vae.encode(pictures).latent_dist
    output = vae.decode(posterior.sample()).sample.float()
    square = functional.mse_loss(output, pictures)
    divergence = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
    coarse = functional.avg_pool2d(pictures, 8)
    tint = functional.l1_loss(functional.avg_pool2d(output, 8), coarse)
    tint = tint + functional.mse_loss(glance(posterior.mean), coarse)
    loss = functional.l1_loss(output, pictures) + 2 * square + tint + KL_WEIGHT * divergence
    return loss, square


def rate_at(share: float, peak: float) -> float:
    """Return the learning rate at a share of the run: short warm-up, cosine to 2 %."""
    return peak * min(1, share / 0.02) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def train(recipe: Recipe) -> None:
    """Train to the budget of the recipe; writes the state file and prints a line a minute."""
    where = device()
    vae = build_vae(recipe).to(where, memory_format=torch.channels_last)
    glance = nn.Conv2d(4, 3, 1).to(where)
    parameters = [*vae.parameters(), *glance.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.99), fused=True
    )
    spent, seen = 0.0, 0
    path = WORK / "vae_state.pt"
    if state := load_state(path):
        vae.load_state_dict(state["vae"])
        glance.load_state_dict(state["glance"])
        optimizer.load_state_dict(state["optimizer"])
        spent, seen = state["spent"], state["seen"]
    composer, rng = Composer(where), np.random.default_rng(1000 + seen)
    last_saved = spent
    errors: list[Tensor] = []
    while spent < recipe.vae_seconds and seen < recipe.vae_samples:
        began = time.monotonic()
        share = max(spent / recipe.vae_seconds, seen / recipe.vae_samples)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(share, recipe.vae_rate)
        whole_share = 0.12 if share < 0.5 else 0.7
        pictures = crops(composer, rng, recipe, whole_share)
        with autocast(where):
            loss, square = loss_of(vae, glance, pictures)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += recipe.vae_batch
        errors.append(square.detach())
        spent += time.monotonic() - began
        if spent - last_saved > 30:
            psnr = 10 * math.log10(4 / torch.stack(errors).mean().item())
            print(
                f"vae {spent:5.0f}/{recipe.vae_seconds} s  {seen} crops  {psnr:.2f} dB", flush=True
            )
            last_saved, errors = spent, []
            save_state(path, _state(vae, glance, optimizer, spent, seen))
        if time_left() < 0:
            save_state(path, _state(vae, glance, optimizer, spent, seen))
            stop_for_now("vae")
    save_state(path, _state(vae, glance, optimizer, spent, seen))


def _state(
    vae: "AutoencoderKL",
    glance: nn.Module,
    optimizer: torch.optim.Optimizer,
    spent: float,
    seen: int,
) -> dict[str, object]:
    return {
        "vae": vae.state_dict(),
        "glance": glance.state_dict(),
        "optimizer": optimizer.state_dict(),
        "spent": spent,
        "seen": seen,
    }


def held_out_pictures(count: int, *, clean: bool = True) -> Tensor:
    """Return composed pictures that no training stage draws, (count, 3, S, S) in [-1, 1]."""
    composer, rng = Composer(), np.random.default_rng(777_777)
    scenes = composer.draw(rng, 2 * count)
    scenes = scenes[scenes["quality"] == 0] if clean else scenes
    return composer.paint(scenes[:count], rng)


@torch.no_grad()
def psnr(vae: "AutoencoderKL", pictures: Tensor) -> float:
    """Return the mean over pictures of the PSNR in dB, in 8-bit range, through the mean latent."""
    where = next(vae.parameters()).device
    values = []
    for part in pictures.split(16):
        output = vae.decode(vae.encode(part.to(where)).latent_dist.mode()).sample.clamp(-1, 1)
        square = ((output - part.to(where)) / 2).square().mean((1, 2, 3))
        values += (-10 * square.clamp_min(1e-10).log10()).tolist()
    return float(np.mean(values))


@torch.no_grad()
def rescale(vae: "AutoencoderKL", pictures: Tensor) -> None:
    """Fold a shift and scale per channel into the quant convolutions, in place.

    Afterwards mean latents times 0.18215 have mean 0 and deviation 1 in each channel.
    """
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in pictures.split(16)])
    mean = latents.mean((0, 2, 3))
    factor = 1 / (latents.std((0, 2, 3)) * LATENT_SCALE)
    quant, back = vae.quant_conv, vae.post_quant_conv
    back.bias += (back.weight[:, :, 0, 0] * mean).sum(1)
    back.weight /= factor[None, :, None, None]
    quant.weight[:4] *= factor[:, None, None, None]
    quant.bias[:4] = (quant.bias[:4] - mean) * factor
    quant.bias[4:] += 2 * factor.log()  # the log variance follows the scale


@torch.no_grad()
def latent_rgb(vae: "AutoencoderKL", pictures: Tensor) -> list[list[float]]:
    """Fit scaled latents to RGB in [0, 1]: four rows of weights, then the bias."""
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in pictures.split(16)])
    inputs = (latents * LATENT_SCALE).permute(0, 2, 3, 1).reshape(-1, 4).double().cpu()
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1).double()], 1)
    small = functional.avg_pool2d(pictures, 8) / 2 + 0.5
    target = small.permute(0, 2, 3, 1).reshape(-1, 3).double().cpu()
    rows = torch.linalg.lstsq(inputs, target).solution
    return [[round(value, 5) for value in row] for row in rows.tolist()]


def finish(recipe: Recipe) -> None:
    """Rescale the trained VAE, measure it and write the frozen weights."""
    vae = build_vae(recipe)
    state = load_state(WORK / "vae_state.pt")
    if state is None:
        raise SystemExit("vae_state.pt is missing: run the vae stage first")
    vae.load_state_dict(state["vae"])
    frozen(vae)
    pictures = held_out_pictures(256).to(next(vae.parameters()).device)
    before = psnr(vae, pictures)
    rescale(vae, pictures)
    facts = {
        "psnr": round(psnr(vae, pictures), 3),
        "psnr_before_rescale": round(before, 3),
        "crops": state["seen"],
        "latent_rgb": latent_rgb(vae, pictures),
    }
    save_weights(WORK / "vae.safetensors", vae.state_dict())
    (WORK / "vae.json").write_text(json.dumps(facts, indent=1))
    print(f"vae: {facts['psnr']} dB on held-out pictures", flush=True)


def main() -> None:
    """Train and finish unless the frozen file is there."""
    if not (WORK / "vae.safetensors").exists():
        train(chosen())
        finish(chosen())


if __name__ == "__main__":
    main()
