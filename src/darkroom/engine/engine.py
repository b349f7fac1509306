"""One device: loads models, plans, and gives tasks the denoiser that their loop calls."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from darkroom.core.model import ModelCard
from darkroom.core.request import ResolvedRequest
from darkroom.core.sampler_table import find_sampler
from darkroom.engine.device import Device
from darkroom.engine.latent import SD1_PREVIEW, decode, to_bytes
from darkroom.engine.models import Model, ModelCache
from darkroom.engine.networks import Placement, load_networks
from darkroom.engine.plan import Plan, Work, costs_of, make_plan
from darkroom.engine.precision import finite, finite_pixels
from darkroom.engine.script import Part, Script, Timing, Writer
from darkroom.engine.shelf import Shelf
from darkroom.engine.text import Conditioning, Encodings, Reading, TextEncoder, same_length
from darkroom.engine.tokenizer import Tokenizer
from darkroom.sampling import (
    At,
    Branches,
    Denoiser,
    Guidance,
    NoiseTable,
    apart,
    compose,
    composed,
    predict,
    steer,
    table_for,
    together,
)
from darkroom.weights.header import Header, read_header

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How a run calls the network."""

    table: NoiseTable  # `Engine.table`
    batch: int  # pictures
    split: bool = False  # never more than one prompt in a call


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

    def shelf(self, files: Mapping[str, Path]) -> Shelf:
        """Embeddings by the words for them, for `Shelf.words`."""
        return Shelf(self._tokenizer, files)

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
        sampler, _ = find_sampler(request.sampler)
        guided = request.cfg_scale != 1 or sampler.paired
        count = 1 if sampler.alone else request.count
        work = Work(request.width, request.height, count, guided=guided)
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

    def script(
        self, model: Model, request: ResolvedRequest, *, shelf: Shelf | None = None, say: Say
    ) -> Script:
        """The request's prompts over its run; BadRequest when they are too long."""
        sampler, _ = find_sampler(request.sampler)
        reading = Reading(clip_skip=request.clip_skip, emphasis=request.emphasis)
        timing = Timing(request.steps * sampler.prompt_calls, old=request.old_prompt_editing)
        writer = Writer(model.text, shelf=shelf, say=say)
        with self.device.guard():
            return writer.write(
                request.prompt, request.negative_prompt, reading=reading, timing=timing
            )

    def denoiser(
        self, model: Model, script: Script, guidance: Guidance, *, frame: Frame, say: Say
    ) -> Denoiser:
        """The guided denoiser of one run, with the NaN guard around it."""
        run = _Run(self.device, model, frame)
        parts = [(run.branch(part), part.weight) for part in script.parts]
        negative = run.branch(script.negative)
        plain = len(parts) == 1 and parts[0][1] == 1
        if plain and not frame.split:
            both = run.pair(script.parts[0], script.negative)
        else:
            both = composed(parts, negative)
        if plain:
            alone = parts[0][0]
        elif guidance.idle:  # parts whose weights leave something for the negative prompt to say
            alone = compose(parts, negative, 1.0)
        else:
            alone = together(parts)
        return finite(steer(both, alone, guidance), model.networks.unet, say)

    def decode(self, model: Model, latent: Tensor, *, plan: Plan, say: Say) -> Tensor:
        """One latent (C, H, W) to a picture (8H, 8W, 3) uint8 on the CPU."""
        vae = model.networks.vae
        scale = model.networks.detected.vae.scale

        def run() -> Tensor:
            return decode(vae, latent.unsqueeze(0), scale=scale, tile=plan.tile)

        with self.device.guard():
            return to_bytes(finite_pixels(run, vae, say))[0]

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


class _Run:
    """The network of one run, to which prompts are bound call by call."""

    def __init__(self, device: Device, model: Model, frame: Frame) -> None:
        self._device, self._model, self._frame = device, model, frame
        self._bound: tuple[tuple[Conditioning, ...], Denoiser] | None = None

    def branch(self, part: Part) -> Denoiser:
        """The estimate with one prompt."""
        return lambda x, at: self._denoiser(part.at(at.call))(x, at)

    def pair(self, part: Part, negative: Part) -> Branches:
        """Both branches of guidance, in one call where their prompts are of one length."""
        apart_ = apart(self.branch(part), self.branch(negative))

        def both(x: Tensor, at: At) -> tuple[Tensor, Tensor]:
            pair = part.at(at.call), negative.at(at.call)
            if not same_length(*pair):
                return apart_(x, at)
            cond, uncond = self._denoiser(*pair)(torch.cat([x, x]), at).chunk(2)
            return cond, uncond

        return both

    def _denoiser(self, *prompts: Conditioning) -> Denoiser:
        """The network with one prompt for each part of its batch; mostly the same as before."""
        if self._bound is None or self._bound[0] != prompts:
            batch = self._frame.batch
            tokens = torch.cat([one.tokens.expand(batch, -1, -1) for one in prompts])
            self._bound = prompts, self._with(tokens)
        return self._bound[1]

    def _with(self, tokens: Tensor) -> Denoiser:
        unet = self._model.networks.unet

        def network(x: Tensor, t: Tensor) -> Tensor:
            weight = unet.conv_in.weight  # of the moment: the NaN guard changes its format
            with self._device.guard():
                out: Tensor = unet(x.to(weight), t, tokens.to(weight), return_dict=False)[0]
            return out.to(x.dtype)

        return predict(network, self._frame.table, self._model.card.prediction)


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
