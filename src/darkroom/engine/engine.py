"""One device: loads models, plans, and gives tasks the denoiser that their loop calls."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from darkroom.core.errors import BadRequest
from darkroom.core.model import ModelCard
from darkroom.core.request import ResolvedRequest
from darkroom.engine.device import Device
from darkroom.engine.latent import SD1_PREVIEW, decode, to_bytes
from darkroom.engine.models import Model, ModelCache
from darkroom.engine.networks import Placement, load_networks
from darkroom.engine.plan import Plan, Work, make_plan
from darkroom.engine.precision import finite, finite_pixels
from darkroom.engine.text import Conditioning, Encodings, TextEncoder, same_length
from darkroom.engine.tokenizer import Tokenizer
from darkroom.sampling import Denoiser, NoiseTable, guide, guide_both, predict
from darkroom.weights.header import read_header

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
        return self._models.get(card, lambda: self._load(card))

    def forget_prompts(self) -> None:
        """Drop every encoded prompt."""
        self._encodings.clear()

    def make_room(self, card: ModelCard) -> None:
        """After an out-of-memory: give up every other model and what torch keeps."""
        self._models.drop_others(card)
        self.device.empty_cache()

    def plan(self, model: Model, request: ResolvedRequest) -> Plan:
        """How to run `request` in the memory that is free now."""
        work = Work(request.width, request.height, request.count, guided=request.cfg_scale != 1)
        return make_plan(
            model.networks.detected,
            work,
            item_bytes=self.device.dtype.itemsize,
            model_bytes=model.bytes,
            free=self.device.memory().free,
            cpu=self.device.kind == "cpu",
        )

    def denoiser(
        self, model: Model, request: ResolvedRequest, *, plan: Plan, batch: int, say: Say
    ) -> Denoiser:
        """The guided denoiser of `request` for `batch` pictures, with the NaN guard around it."""
        scale = request.cfg_scale
        cond = self._encode(model, request.prompt, request.clip_skip)
        uncond = cond
        if scale != 1:
            uncond = self._encode(model, request.negative_prompt, request.clip_skip)
        alone = self._branch(model, cond, batch)
        if scale == 1:
            guided = alone
        elif plan.split_guidance or not same_length(cond, uncond):
            guided = guide(alone, self._branch(model, uncond, batch), scale)
        else:
            guided = guide_both(self._both(model, (cond, uncond), batch), alone, scale)
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

    def _branch(self, model: Model, prompt: Conditioning, batch: int) -> Denoiser:
        return self._network(model, prompt.tokens.expand(batch, -1, -1))

    def _both(
        self, model: Model, pair: tuple[Conditioning, Conditioning], batch: int
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        """Both branches of guidance in one call: the first half of the batch has the prompt."""
        tokens = torch.cat([one.tokens.expand(batch, -1, -1) for one in pair])
        network = self._network(model, tokens)

        def both(x: Tensor, at: object) -> tuple[Tensor, Tensor]:
            cond, uncond = network(torch.cat([x, x]), at).chunk(2)  # type: ignore[arg-type]
            return cond, uncond

        return both

    def _network(self, model: Model, tokens: Tensor) -> Denoiser:
        unet = model.networks.unet

        def network(x: Tensor, t: Tensor) -> Tensor:
            weight = unet.conv_in.weight
            with self.device.guard():
                out = unet(x.to(weight), t.to(x.device), tokens.to(weight), return_dict=False)[0]
            return out.to(x.dtype)  # type: ignore[no-any-return]

        return predict(network, model.table, model.card.prediction)

    def _load(self, card: ModelCard) -> Model:
        header = read_header(Path(card.path))
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


def preview_matrix(card: ModelCard) -> Tensor:
    """Latent to RGB for previews, (C + 1, 3): the model's own if its file brings one."""
    try:
        own = torch.tensor(json.loads(card.metadata["darkroom.latent_rgb"]), dtype=torch.float32)
    except (KeyError, ValueError, TypeError, RecursionError):
        own = torch.empty(0)
    known = torch.tensor(SD1_PREVIEW)
    return own if own.shape == known.shape and bool(torch.isfinite(own).all()) else known
