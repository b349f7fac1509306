"""Latents here and in diffusers' own pipelines: same file, same noise, same prompts, on the CPU.

    python bench/parity.py sd15.safetensors sd21.safetensors sdxl.safetensors inpaint.safetensors

Inpainting and edit models get the same picture, and the former the same mask, too.

Theirs reads the file by diffusers' own tables and encodes prompts with transformers' models. One of
the two is in memory at a time. SDXL takes 18 GB at its peak.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from darkroom.core.model import Arch, ModelCard, Variant
from darkroom.core.recipe import resolve
from darkroom.core.request import ImageRequest, ResolvedRequest
from darkroom.engine.device import choose_device
from darkroom.engine.engine import Engine
from darkroom.engine.networks import make_unet, make_vae
from darkroom.engine.run import Frame
from darkroom.engine.tokenizer import BOS, EOS, Tokenizer
from darkroom.engine.tower import PADS
from darkroom.sampling import sample
from darkroom.tasks.canvas import Canvas
from darkroom.tasks.course import course_of, guidance_of
from darkroom.tasks.networks import worn
from darkroom.tasks.rig import Rig, to_unit
from darkroom.tasks.start import start_of
from darkroom.weights.detect import Detected, detect
from darkroom.weights.header import read_header
from darkroom.weights.topology import FACTOR, TextDims, VaeDims

LIMIT = 1e-3  # of the latents' norm
ASKED = {
    "prompt": "a red apple on a blue background",
    "negative_prompt": "blurry, low quality",
    "sampler": "Euler",
    "scheduler": "Karras",
    "cfg_scale": 7.0,
    "seed": 1234,
}
TEXT_PREFIXES = {  # of a family's text encoders in a single file
    Arch.SD1: ("cond_stage_model.transformer.",),
    Arch.SD2: ("cond_stage_model.model.",),
    Arch.SDXL: ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
}
_FILE = {"image": f"sha256:{'0' * 64}"}  # stands for `picture` and `mask` below
BESIDE: Mapping[Variant, Mapping[str, Any]] = {  # of a request, for what a variant sees
    Variant.BASE: {},
    Variant.INPAINT: {"init": _FILE, "mask": _FILE},
    Variant.EDIT: {"init": {**_FILE, "image_cfg_scale": 1.6}},
}
State = Mapping[str, Tensor]


def main() -> int:
    """One line a file; 1 when one of them is beyond the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    asked = parser.parse_args()
    worst = 0.0
    for path in asked.paths:
        began = time.perf_counter()
        found = error(path, side=asked.side, steps=asked.steps)
        worst = max(worst, found)
        print(f"{path.name}: {found:.2e}   ({time.perf_counter() - began:.0f} s)", flush=True)
    return int(worst > LIMIT)


def error(path: Path, *, side: int, steps: int) -> float:
    """The distance of the two final latents, relative to the norm of theirs."""
    detected = detect(read_header(path))
    card = card_of(path, detected)
    fields = {**ASKED, "width": side, "height": side, "steps": steps, "model": card.name}
    fields |= BESIDE[detected.variant]
    request = resolve(ImageRequest.parse(fields), card)
    found = ours(card, request)
    gc.collect()
    wanted = theirs(path, detected, request)
    return float((found - wanted).norm() / wanted.norm())


def card_of(path: Path, detected: Detected) -> ModelCard:
    """A card without the hash, which takes a while and that nobody asks for here."""
    return ModelCard(
        sha256=str(path.absolute()).encode().hex()[-64:].rjust(64, "0"),
        path=str(path),
        name=path.stem,
        kind=detected.kind,
        arch=detected.arch,
        variant=detected.variant,
        prediction=detected.prediction,
        bytes=0,
        native_size=detected.native_size,
    )


@torch.inference_mode()
def ours(card: ModelCard, request: ResolvedRequest) -> Tensor:
    """The final latent (C, H, W) of Darkroom."""
    engine = Engine(choose_device("cpu"), cache_bytes=0)
    model = engine.model(card)
    course = course_of(engine, model, request, images=range(1))
    with worn(engine, model, files={}, shelf=engine.shelf({})) as networks:
        rig = Rig(engine, model, networks)
        start = start_of(rig, request, _canvas(request), images=range(1))
    frame = Frame(table=engine.table(model, request), batch=1, beside=start.beside)
    script = engine.script(model, request, say=print)
    denoise = engine.denoiser(model, script, guidance_of(request), frame=frame, say=print)
    *_, last = sample(denoise, course, torch.zeros(1, 1, 1, 1))
    return last.x[0]


def _canvas(request: ResolvedRequest) -> Canvas:
    """Bent stripes of all colours, the left half of them masked where there is a mask."""
    down, across = np.mgrid[: request.height, : request.width] / request.width
    waves = [np.sin(5 * (down + k * across) ** 2) for k in (1, 2, 3)]
    picture = Image.fromarray((np.stack(waves, -1) * 100 + 128).astype(np.uint8))
    half = Image.fromarray(((across < 0.5) * 255).astype(np.uint8))
    return Canvas(picture=picture, mask=None if request.mask is None else half)


@torch.inference_mode()
def theirs(path: Path, detected: Detected, request: ResolvedRequest) -> Tensor:
    """The final latent (C, H, W) of diffusers."""
    state = load_file(path)
    encoded = _encoded(state, detected, (request.prompt, request.negative_prompt))
    pipeline = _pipeline(state, detected)
    del state
    gc.collect()
    pipeline.set_progress_bar_config(disable=True)
    seeded = torch.Generator().manual_seed(request.seed)
    size = (1, 4, request.height // FACTOR, request.width // FACTOR)
    result = pipeline(
        **encoded,
        **_more(pipeline, detected.variant, request),
        num_inference_steps=request.steps,
        guidance_scale=request.cfg_scale,
        latents=torch.randn(size, generator=seeded),
        output_type="latent",
    )
    latent: Tensor = result.images[0]
    return latent


def _more(pipeline: Any, variant: Variant, request: ResolvedRequest) -> dict[str, Any]:
    """What a pipeline is given besides prompts and noise: the picture, or the size to make."""
    canvas, size = _canvas(request), {"width": request.width, "height": request.height}
    pixels = to_unit(canvas.picture)
    if variant is Variant.EDIT and request.init is not None:
        scale = request.init.image_cfg_scale
        return {"image": (pixels + 1) / 2, "image_guidance_scale": scale}
    if variant is Variant.INPAINT and canvas.mask is not None:
        mask = torch.from_numpy(np.array(canvas.mask, dtype=np.float32))[None, None] / 255
        behind = pipeline.vae.encode(pixels * (mask < 0.5)).latent_dist.mean
        behind = behind * pipeline.vae.config.scaling_factor  # given, since they would draw it
        more = {"image": pixels, "mask_image": mask, "masked_image_latents": behind}
        return {**size, **more, "strength": 1.0}
    return size


def _pipeline(state: State, detected: Detected) -> Any:
    """Their pipeline with UNet, VAE and scheduler; prompts come encoded."""
    import diffusers
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    unet = make_unet(detected.unet)
    unet.register_to_config(sample_size=64)
    _fill(unet, convert_ldm_unet_checkpoint(state, dict(unet.config)))
    vae = make_vae(detected.vae or VaeDims(channels=(), layers=0, latent_channels=4))
    _fill(vae, convert_ldm_vae_checkpoint(state, dict(vae.config)))
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        use_karras_sigmas=True,
        timestep_spacing="linspace",
        steps_offset=1,
        prediction_type={"v": "v_prediction", "eps": "epsilon"}[detected.prediction],
    )
    parts = {"vae": vae, "unet": unet, "scheduler": scheduler, "tokenizer": None}
    if detected.arch is Arch.SDXL:
        return diffusers.StableDiffusionXLPipeline(
            **parts,
            text_encoder=None,
            text_encoder_2=_Width(detected.texts[-1]),
            tokenizer_2=None,
            add_watermarker=False,
        )
    kinds = {
        Variant.BASE: diffusers.StableDiffusionPipeline,
        Variant.INPAINT: diffusers.StableDiffusionInpaintPipeline,
        Variant.EDIT: diffusers.StableDiffusionInstructPix2PixPipeline,
    }
    return kinds[detected.variant](
        **parts,
        text_encoder=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


class _Width(nn.Module):
    """Stands in for SDXL's second text encoder, of which the pipeline asks these only."""

    def __init__(self, dims: TextDims) -> None:
        super().__init__()
        self.config = type("Config", (), {"projection_dim": dims.projection})()
        self.dtype, self.device = torch.float32, torch.device("cpu")


def _fill(module: nn.Module, state: State) -> None:
    """Their tensors in single precision; those that the module does not know are left out."""
    known = module.state_dict().keys()
    inner = {name: tensor.float() for name, tensor in state.items() if name in known}
    module.load_state_dict(inner, strict=True, assign=True)
    module.eval().requires_grad_(False)


def _encoded(state: State, detected: Detected, prompts: tuple[str, str]) -> dict[str, Tensor]:
    """Both prompts as the pipelines take them encoded."""
    states: list[Tensor] = []
    whole = None
    for dims, prefix in zip(detected.texts, TEXT_PREFIXES[detected.arch], strict=True):
        text = _text(state, dims, prefix)
        pad = PADS[dims.activation]
        rows = torch.tensor([_row(prompt, pad) for prompt in prompts])
        out = text(rows, output_hidden_states=True)
        states.append(out.hidden_states[-2] if dims.penultimate else out.last_hidden_state)
        whole = getattr(out, "text_embeds", None)
    prompt, negative = torch.cat(states, dim=-1).split(1)
    encoded = {"prompt_embeds": prompt, "negative_prompt_embeds": negative}
    if whole is not None:
        encoded["pooled_prompt_embeds"], encoded["negative_pooled_prompt_embeds"] = whole.split(1)
    return encoded


def _row(prompt: str, pad: int) -> list[int]:
    """What their tokenizers give for a prompt of at most 75 tokens."""
    ids = [BOS, *Tokenizer().encode(prompt)[:75], EOS]
    return ids + [pad] * (77 - len(ids))


def _text(state: State, dims: TextDims, prefix: str) -> Callable[..., Any]:
    """Their text encoder, read by their tables."""
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_open_clip_checkpoint,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=dims.vocab,
        hidden_size=dims.width,
        intermediate_size=dims.intermediate,
        num_hidden_layers=dims.layers,
        num_attention_heads=dims.heads,
        max_position_embeddings=dims.positions,
        hidden_act=dims.activation,
        projection_dim=dims.projection or dims.width,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    kind = CLIPTextModel if dims.projection is None else CLIPTextModelWithProjection
    text = kind(config)
    if prefix.endswith("transformer."):
        found = convert_ldm_clip_checkpoint(state, prefix)
    else:
        found = convert_open_clip_checkpoint(text, state, prefix)
    inner = any(name.startswith("text_model.") for name in text.state_dict())
    if not inner:  # since transformers 5.6
        found = {name.removeprefix("text_model."): tensor for name, tensor in found.items()}
    _fill(text, found)
    return text


if __name__ == "__main__":
    raise SystemExit(main())
