"""The three networks of a recipe, untrained, and what every training stage shares.

They are Darkroom's own (`darkroom.engine.networks`): a recipe only gives their dimensions, and what
is trained here is what runs there.
"""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from darkroom.engine.clip import ClipText
from darkroom.engine.networks import make_text, make_unet, make_vae
from darkroom.weights.topology import CLIP_POSITIONS, TextDims, UNetDims, VaeDims
from starter.recipe import LATENT_SCALE, WORK, Recipe, cores

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

Net = TypeVar("Net", bound=nn.Module)


def device() -> torch.device:
    """Return the GPU where there is one; on the CPU use every core."""
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda")
    torch.set_num_threads(cores())
    return torch.device("cpu")


def autocast(where: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Compute in bfloat16 on CUDA, in float32 elsewhere (bf16 is slower on this CPU)."""
    if where.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


def unet_dims(recipe: Recipe) -> UNetDims:
    """Return the denoiser's dimensions; attention on every level but the last, as in SD1."""
    return UNetDims(
        in_channels=4,
        out_channels=4,
        channels=recipe.unet_channels,
        layers=2,
        depths=(1, 1, 0),
        mid_depth=1,
        context=recipe.text_width,
        linear_projection=True,
    )


def vae_dims(recipe: Recipe) -> VaeDims:
    """Return the VAE's: (B, 3, S, S) in [-1, 1] to (B, 4, S / 8, S / 8)."""
    return VaeDims(channels=recipe.vae_channels, layers=1, latent_channels=4, scale=LATENT_SCALE)


def text_dims(recipe: Recipe, rows: int) -> TextDims:
    """Return the text encoder's with `rows` token embeddings (compact while training)."""
    width = recipe.text_width
    return TextDims(
        width=width,
        layers=recipe.text_layers,
        intermediate=4 * width,
        positions=CLIP_POSITIONS,
        vocab=rows,
    )


def build_unet(recipe: Recipe) -> "UNet2DConditionModel":
    """Return an untrained denoiser."""
    return _started(make_unet(unet_dims(recipe)))


def build_vae(recipe: Recipe) -> "AutoencoderKL":
    """Return an untrained VAE."""
    vae = _started(make_vae(vae_dims(recipe)))
    _start_linear(vae)
    return vae


def build_text(recipe: Recipe, rows: int) -> ClipText:
    """Return an untrained text encoder, started as CLIP starts."""
    text = _started(make_text(text_dims(recipe, rows)))
    width, layers = recipe.text_width, recipe.text_layers
    inner = (2 * layers * width) ** -0.5
    spreads = {
        "embedding.weight": 0.02,
        "k_proj.weight": inner,
        "v_proj.weight": inner,
        "q_proj.weight": inner,
        "out_proj.weight": width**-0.5,
        "fc1.weight": (2 * width) ** -0.5,
        "fc2.weight": inner,
    }
    with torch.no_grad():
        for name, value in text.named_parameters():
            for end, spread in spreads.items():
                if name.endswith(end):
                    nn.init.normal_(value, std=spread)
            if name.endswith(".bias"):
                nn.init.zeros_(value)
    return text


def _started(network: Net) -> Net:
    """Give a network on the meta device memory, and every layer its usual random start."""
    network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm):
            module.reset_parameters()
    return network.train()


@torch.no_grad()
def _start_linear(vae: "AutoencoderKL") -> None:
    """Begin near a linear autoencoder without posterior noise, which learns several times faster.

    PyTorch's own start shrinks the signal at every layer below the biases, and a posterior
    deviation of 1 drowns what is left.
    """
    for name, module in vae.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            gain = 0.1 if name.endswith("conv2") else 1.0
            nn.init.normal_(module.weight, std=gain / fan_in**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    vae.quant_conv.weight[4:] = 0
    vae.quant_conv.bias[4:] = -6


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a torch state file so that a kill at any moment leaves the old or the new one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    """Read a state file of ours, None where there is none."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def save_weights(
    path: Path, weights: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write safetensors atomically."""
    part = path.with_suffix(".part")
    save_file({key: value.contiguous() for key, value in weights.items()}, part, metadata)
    part.replace(path)


def vae_file() -> Path:
    """Return the finished VAE: with the tuned decoder where there is one (same encoder)."""
    tuned = WORK / "vae_tuned.safetensors"
    return tuned if tuned.exists() else WORK / "vae.safetensors"


def trained_vae(recipe: Recipe, path: Path | None = None) -> "AutoencoderKL":
    """Return the finished VAE, frozen, on the device."""
    vae = build_vae(recipe)
    vae.load_state_dict(load_file(path or vae_file()))
    return frozen(vae)


def frozen(network: Net) -> Net:
    """Move to the device, evaluation mode, no gradients, channels last."""
    network.requires_grad_(False).eval().to(device())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
