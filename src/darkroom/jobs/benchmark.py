"""txt2img here and in a plain diffusers pipeline: same weights, same noise, alternating.

Machines are noisy and drift, so the two take turns and only the ratio of each pair counts. Both
run Euler on the Karras schedule, which both compute at unrounded timesteps, so that their final
latents can be compared; the comparison is part of the result.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from darkroom.core.errors import BadRequest
from darkroom.core.model import Arch, ModelCard, Prediction, Variant
from darkroom.core.recipe import resolve
from darkroom.core.request import ImageRequest, ResolvedRequest
from darkroom.core.settings import Settings
from darkroom.engine.device import Device
from darkroom.engine.engine import Engine
from darkroom.engine.networks import Placement, load_networks, load_vae
from darkroom.engine.run import Frame
from darkroom.engine.tokenizer import BOS, EOS, Tokenizer
from darkroom.jobs.checkup import device_for
from darkroom.sampling import sample
from darkroom.tasks.course import course_of, guidance_of
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from darkroom.weights.topology import TextDims

if TYPE_CHECKING:
    from transformers import CLIPTextModel

COMPARED = (Arch.SD1, Variant.BASE, Prediction.EPS)  # with diffusers' pipeline as it is set here

FIXED = {
    "prompt": "a red apple on a blue background",
    "negative_prompt": "blurry, low quality",
    "sampler": "Euler",
    "scheduler": "Karras",
    "cfg_scale": 7.0,
    "seed": 1234,
}


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of one pair of runs."""

    ours: float
    diffusers: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of all rounds."""

    rounds: tuple[Round, ...]
    device: str  # "cpu float32"
    latent_error: float  # greatest difference of the final latents, of their greatest value
    pixel_error: int  # greatest difference of the pictures, of 255

    @property
    def ratio(self) -> float:
        """Median over rounds of diffusers' time / ours: above 1, ours is faster."""
        return statistics.median(r.diffusers / r.ours for r in self.rounds)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "ratio": self.ratio}


Tensors = dict[str, Tensor]
Run = Callable[[], tuple[Tensor, Tensor]]  # -> latent (C, H, W), picture (8H, 8W, 3) uint8


def run_rounds(
    card: ModelCard, fields: Mapping[str, Any], *, rounds: int, settings: Settings
) -> Iterator[Comparison]:
    """Measure round after round, after a warm-up; each yield holds all rounds so far.

    `fields` are those of the request that may vary: size, steps.
    """
    device = device_for(settings)
    request = resolve(ImageRequest.parse({**FIXED, **fields}), card)
    theirs, ours = _theirs(card, request, device), _ours(card, request, device)
    used = f"{device.name} {str(device.dtype).removeprefix('torch.')}"
    (latent, picture), (their_latent, their_picture) = ours(), theirs()
    error = (latent - their_latent).abs().max() / their_latent.abs().max()
    pixels = (picture.int() - their_picture.int()).abs().max()
    done: list[Round] = []
    for number in range(rounds):
        if number % 2:  # take turns in going first, too
            second, first = _seconds(theirs), _seconds(ours)
        else:
            first, second = _seconds(ours), _seconds(theirs)
        done.append(Round(first, second))
        yield Comparison(tuple(done), used, float(error), int(pixels))


def _seconds(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _ours(card: ModelCard, request: ResolvedRequest, device: Device) -> Run:
    """What `tasks.image` does, without files; text is encoded anew each time, as theirs is."""
    engine = Engine(device, cache_bytes=0)
    model = engine.model(card)
    plan = engine.plan(model, request)
    course = course_of(engine, model, request, images=range(1))
    guidance = guidance_of(request)
    frame = Frame(table=engine.table(model, request), batch=1, split=plan.split_guidance)

    def run() -> tuple[Tensor, Tensor]:
        engine.forget_prompts()
        script = engine.script(model, request, say=lambda _text: None)
        denoise = engine.denoiser(model, script, guidance, frame=frame, say=lambda _text: None)
        for step in sample(denoise, course, torch.zeros(1, 1, 1, 1, device=device.torch)):
            latent = step.x[0]
        return latent.cpu(), engine.decode(model, latent, plan=plan, say=lambda _text: None)

    return run


def _states(text: CLIPTextModel, tokenizer: Tokenizer, prompt: str) -> Tensor:
    """What the pipeline does with a prompt: at most 75 tokens, padded with EOS."""
    row = [BOS, *tokenizer.encode(prompt)[:75]]
    tokens = torch.tensor([row + [EOS] * (77 - len(row))])
    states: Tensor = text(tokens.to(text.device))[0]
    return states


def _clip(dims: TextDims, kind: type[CLIPTextModel]) -> CLIPTextModel:
    """transformers' own text encoder, in the sizes of ours."""
    from transformers import CLIPTextConfig

    config = CLIPTextConfig(
        vocab_size=dims.vocab,
        hidden_size=dims.width,
        intermediate_size=dims.intermediate,
        num_hidden_layers=dims.layers,
        num_attention_heads=dims.heads,
        max_position_embeddings=dims.positions,
        hidden_act="quick_gelu",
    )
    return kind(config).eval().requires_grad_(False)


def _theirs(card: ModelCard, request: ResolvedRequest, device: Device) -> Run:
    """diffusers' own pipeline and scheduler, as its documentation writes them."""
    # Imported whole before any network is built, so that `engine.imports` leaves them alone.
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
    from transformers import CLIPTextModel

    header, placement = read_header(Path(card.path)), Placement(dtype=device.dtype)
    detected = detect(header)
    kind = detected.arch, detected.variant, detected.prediction
    if detected.vae is None or kind != COMPARED:
        raise BadRequest(
            f"{card.name} cannot be compared", hint="Name a plain SD1 checkpoint with its VAE."
        )
    networks = load_networks(header, detected, placement)
    vae = load_vae(header, detected.vae, rows=detected.layout["vae"], placement=placement)
    text = _clip(detected.texts[0], CLIPTextModel)
    text.load_state_dict(networks.texts[0].state_dict())
    text = text.to(device.torch, device.dtype)
    tokenizer = Tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=vae.module,
        text_encoder=text,
        tokenizer=None,  # prompts are encoded in `run`: theirs needs files from a hub
        unet=networks.unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            use_karras_sigmas=True,
            timestep_spacing="linspace",
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline = pipeline.to(device.torch)
    pipeline.set_progress_bar_config(disable=True)
    shape = (1, 4, request.height // 8, request.width // 8)

    def run() -> tuple[Tensor, Tensor]:
        seeded = torch.Generator().manual_seed(request.seed)
        kept: list[Tensor] = []

        def keep(*arguments: Any) -> Tensors:  # pipeline, step, timestep, tensors
            tensors: Tensors = arguments[-1]
            kept[:] = [tensors["latents"]]
            return tensors

        result = pipeline(
            prompt_embeds=_states(text, tokenizer, request.prompt),
            negative_prompt_embeds=_states(text, tokenizer, request.negative_prompt),
            num_inference_steps=request.steps,
            guidance_scale=request.cfg_scale,
            width=request.width,
            height=request.height,
            latents=torch.randn(shape, generator=seeded).to(device.torch, device.dtype),
            output_type="np",
            callback_on_step_end=keep,
        )
        return kept[0][0].float().cpu(), torch.from_numpy(result.images[0] * 255).to(torch.uint8)

    return run
