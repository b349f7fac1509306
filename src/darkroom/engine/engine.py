"""One device: loads models, plans, and gives tasks the denoiser that their loop calls."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from darkroom.core.errors import BadRequest
from darkroom.core.model import ModelCard
from darkroom.core.request import ResolvedRequest
from darkroom.core.sampler_table import find_sampler
from darkroom.engine.device import Device
from darkroom.engine.latent import SD1_PREVIEW, decode, to_bytes
from darkroom.engine.models import Model, ModelCache
from darkroom.engine.networks import Placement, load_networks
from darkroom.engine.plan import Plan, Work, costs_of, make_plan
from darkroom.engine.precision import finite, finite_pixels
from darkroom.engine.text import Conditioning, Encodings, TextEncoder, same_length
from darkroom.engine.tokenizer import Tokenizer
from darkroom.sampling import (
    At,
    Branches,
    Denoiser,
    NoiseTable,
    guide,
    guide_both,
    predict,
    table_for,
)
from darkroom.weights.header import Header, read_header

MAX_TOKENS = 75_000  # each chunk of 75 makes every attention to the text as much longer
Say = Callable[[str], None]


class Engine:
    """Runs networks on one device. One job at a time: not thread-safe."""

    def __init__(self, device: Device, *, cache_bytes: int) -> None:
        self.device = device
        self._models = ModelCache(cache_bytes)
        self._tokenizer = Tokenizer()
        self._encodings = Encodings()

    def model(self, card: ModelCard) -> Model:
        """The checkpoint of `card`, loaded if it is not here yet."""
        if (known := self._models.find(card.sha256)) is not None:
            return known
        header = read_header(Path(card.path))
        numbers = sum(math.prod(tensor.shape) for tensor in header.tensors.values())
        needed = numbers * self.device.dtype.itemsize
        self._models.make_room(needed)
        model = self._load(card, header)
        self._models.keep(model)
        return model

    def forget_prompts(self) -> None:
        """Drop every encoded prompt."""
        self._encodings.clear()

    def make_room(self, card: ModelCard) -> None:
        """After an out-of-memory: give up every other model, encoded prompts and torch's cache."""
        self._models.drop_others(card.sha256)
        self.forget_prompts()
        self.device.empty_cache()

    def plan(self, model: Model, request: ResolvedRequest) -> Plan:
        """How to run `request` in the memory that is free now."""
        work = Work(request.width, request.height, request.count, guided=request.cfg_scale != 1)
        costs = costs_of(
            model.networks.detected,
            work,
            item_bytes=self.device.dtype.itemsize,
            model_bytes=model.bytes,
        )
        cpu = self.device.kind == "cpu"
        return make_plan(costs, work, free=self.device.memory().free, cpu=cpu)

    def table(self, model: Model, request: ResolvedRequest) -> NoiseTable:
        """The noise levels that the request's sampler walks and its network is asked at."""
        sampler, _ = find_sampler(request.sampler)
        return table_for(sampler, model.table)

    def denoiser(
        self, model: Model, request: ResolvedRequest, *, plan: Plan, batch: int, say: Say
    ) -> Denoiser:
        """The guided denoiser of `request` for `batch` pictures, with the NaN guard around it."""
        scale = request.cfg_scale
        cond = self._encode(model, request.prompt, request.clip_skip)
        uncond = cond
        if scale != 1:
            uncond = self._encode(model, request.negative_prompt, request.clip_skip)
        run = _Run(self.device, model, self.table(model, request))
        alone = run.branch(cond, batch)
        if scale == 1:
            guided = alone
        elif plan.split_guidance or not same_length(cond, uncond):
            guided = guide(alone, run.branch(uncond, batch), scale)
        else:
            guided = guide_both(run.both((cond, uncond), batch), alone, scale)
        return finite(guided, model.networks.unet, say)

    def decode(self, model: Model, latent: Tensor, *, plan: Plan, say: Say) -> Tensor:
        """One latent (C, H, W) to a picture (8H, 8W, 3) uint8 on the CPU."""
        vae = model.networks.vae
        scale = model.networks.detected.vae.scale

        def run() -> Tensor:
            return decode(vae, latent.unsqueeze(0), scale=scale, tile=plan.tile)

        with self.device.guard():
            return to_bytes(finite_pixels(run, vae, say))[0]

    def _encode(self, model: Model, text: str, clip_skip: int) -> Conditioning:
        tokens, _ = model.text.count(text)
        if tokens > MAX_TOKENS:
            raise BadRequest(
                f"the prompt has {tokens:,} tokens, and {MAX_TOKENS:,} is the most",
                hint="Most models heed the first 75 best.",
            )
        with self.device.guard():
            return model.text.encode(text, clip_skip=clip_skip)

    def _load(self, card: ModelCard, header: Header) -> Model:
        placement = Placement(
            device=self.device.torch,
            dtype=self.device.dtype,
            channels_last=self.device.channels_last,
        )
        with self.device.guard():
            networks = load_networks(header, placement)
        return Model(
            card=card,
            networks=networks,
            text=TextEncoder(
                networks.text, self._tokenizer, weights=card.sha256, cache=self._encodings
            ),
            table=NoiseTable.stable_diffusion(),
            preview=preview_matrix(card),
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """The network of one request, with prompts bound to it."""

    device: Device
    model: Model
    table: NoiseTable

    def branch(self, prompt: Conditioning, batch: int) -> Denoiser:
        """The estimate with one prompt, for `batch` pictures."""
        return self._denoiser(prompt.tokens.expand(batch, -1, -1))

    def both(self, pair: tuple[Conditioning, Conditioning], batch: int) -> Branches:
        """Both branches of guidance in one call: the first half of the batch has the prompt."""
        denoise = self._denoiser(torch.cat([one.tokens.expand(batch, -1, -1) for one in pair]))

        def both(x: Tensor, at: At) -> tuple[Tensor, Tensor]:
            cond, uncond = denoise(torch.cat([x, x]), at).chunk(2)
            return cond, uncond

        return both

    def _denoiser(self, tokens: Tensor) -> Denoiser:
        unet = self.model.networks.unet

        def network(x: Tensor, t: Tensor) -> Tensor:
            weight = unet.conv_in.weight  # of the moment: the NaN guard changes its format
            with self.device.guard():
                out: Tensor = unet(x.to(weight), t, tokens.to(weight), return_dict=False)[0]
            return out.to(x.dtype)

        return predict(network, self.table, self.model.card.prediction)


def preview_matrix(card: ModelCard) -> Tensor:
    """Latent to RGB in [-1, 1] for previews, (C + 1, 3), the offset last.

    A model may bring its own in its metadata, for RGB in [0, 1]: `darkroom.latent_rgb`.
    """
    known = torch.tensor(SD1_PREVIEW)
    try:
        own = torch.tensor(json.loads(card.metadata["darkroom.latent_rgb"]), dtype=torch.float32)
    except (KeyError, ValueError, TypeError, RecursionError):
        return known
    if own.shape != known.shape or not bool(torch.isfinite(own).all()):
        return known
    own *= 2
    own[-1] -= 1
    return own
