"""One device: loads models, plans, and gives tasks the denoiser that their loop calls."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from darkroom.core.model import ModelCard, Variant
from darkroom.core.request import ResolvedRequest
from darkroom.core.sampler_table import find_sampler
from darkroom.engine.adapters import ADAPTERS, AdapterCache
from darkroom.engine.caption import Captioner, load_captioner
from darkroom.engine.conditioning import Encodings
from darkroom.engine.detect import Detector, detector_of
from darkroom.engine.device import Device
from darkroom.engine.latent import OVERLAP, decode, encode, to_bytes
from darkroom.engine.loading import Loader
from darkroom.engine.models import Model
from darkroom.engine.plan import Plan, Work, costs_of, make_plan
from darkroom.engine.precision import finite, finite_pixels
from darkroom.engine.preview import PreviewDecoder, load_preview
from darkroom.engine.restorer import Restorer, load_restorer
from darkroom.engine.run import Frame, Run, Say
from darkroom.engine.script import Part, Script, Timing, Writer
from darkroom.engine.seamless import edgeless, unbroken
from darkroom.engine.shelf import Shelf
from darkroom.engine.text import Reading
from darkroom.engine.tokenizer import Tokenizer
from darkroom.engine.upscaler import Upscaler, load_upscaler
from darkroom.sampling import (
    Denoiser,
    Guidance,
    NoiseTable,
    compose,
    composed,
    near,
    steer,
    table_for,
    together,
)
from darkroom.sampling.guidance import Parts
from darkroom.sampling.regional import Region, prompted, regional
from darkroom.weights.topology import FACTOR


class Engine:
    """Runs networks on one device. One job at a time: not thread-safe."""

    def __init__(self, device: Device, *, cache_bytes: int) -> None:
        self.device = device
        self._tokenizer = Tokenizer()
        self._encodings = Encodings()
        self._loader = Loader(device, self._tokenizer, self._encodings, cache_bytes=cache_bytes)
        self._captioner: tuple[str, Captioner] | None = None  # by the hash of its file
        self._previewer: tuple[str, PreviewDecoder] | None = None  # by the hash of its file
        self._detectors: dict[str, Detector] = {}  # by name or by the hash of their file
        self.adapters = AdapterCache(min(ADAPTERS, cache_bytes // 4))

    def model(self, card: ModelCard, vae: ModelCard | None = None) -> Model:
        """The checkpoint of `card`, with the VAE of another file or its own.

        What is in memory is not read again: another VAE is no other checkpoint.
        """
        return self._loader.model(card, vae)

    def upscaler(self, card: ModelCard) -> Upscaler:
        """The network of `card` that enlarges pictures; kept beside the checkpoints."""
        return self._loader.other(
            ("upscaler", card.sha256),
            Upscaler,
            card.bytes,
            make=lambda: load_upscaler(card, self.device),
        )

    def restorer(self, card: ModelCard) -> Restorer:
        """The network of `card` that mends faces; kept beside the checkpoints."""
        return self._loader.other(
            ("restorer", card.sha256),
            Restorer,
            card.bytes,
            make=lambda: load_restorer(card, self.device),
        )

    def detector(self, name: str, card: ModelCard | None) -> Detector:
        """The detector called `name`, in the file of `card` if it is a file; they are small."""
        key = name.casefold() if card is None else card.sha256
        if key not in self._detectors:
            self._detectors[key] = detector_of(name, card)
        return self._detectors[key]

    def preview_decoder(self, card: ModelCard) -> PreviewDecoder:
        """The tiny decoder of `card`; the latest stays loaded, and no checkpoint goes for it."""
        if self._previewer is None or self._previewer[0] != card.sha256:
            self._previewer = card.sha256, load_preview(card, self.device)
        return self._previewer[1]

    def shelf(self, files: Mapping[str, Path]) -> Shelf:
        """Embeddings by the words for them, for `Shelf.words`."""
        return Shelf(self._tokenizer, files)

    def forget_prompts(self) -> None:
        """Drop every encoded prompt."""
        self._encodings.clear()

    def captioner(self, card: ModelCard | None) -> Captioner:
        """The captioner of `card`, or our own; the latest stays loaded for the next picture."""
        name = "" if card is None else card.sha256
        if self._captioner is None or self._captioner[0] != name:
            self._captioner = None  # before the other is there: both may not fit
            self._captioner = name, load_captioner(card, self.device.torch)
        return self._captioner[1]

    def make_room(self, model: Model | None = None) -> None:
        """After an out-of-memory: give up every other model, encoded prompts and torch's cache."""
        self._loader.drop_others(model)
        self._captioner = self._previewer = None
        self.adapters.clear()
        self.forget_prompts()
        self.device.empty_cache()

    def plan(self, model: Model, request: ResolvedRequest) -> Plan:
        """How to run `request` in the memory that is free now."""
        sampler, _ = find_sampler(request.sampler)
        guided = request.cfg_scale != 1 or sampler.paired
        count = 1 if sampler.alone else request.count
        work = Work(request.width, request.height, count, guided=guided)
        costs = costs_of(
            model.networks.detected.unet,
            model.vae.dims,
            work,
            item_bytes=self.device.dtype.itemsize,
            model_bytes=model.bytes,
        )
        cpu = self.device.kind == "cpu"
        plan = make_plan(costs, work, free=self.device.memory().free, cpu=cpu)
        return replace(plan, tiling=request.tiling)

    def table(self, model: Model, request: ResolvedRequest) -> NoiseTable:
        """The noise levels that the request's sampler walks and its network is asked at."""
        sampler, _ = find_sampler(request.sampler)
        return table_for(sampler, model.table)

    def script(
        self,
        model: Model,
        request: ResolvedRequest,
        *,
        shelf: Shelf | None = None,
        say: Say,
        before: int = 0,
    ) -> Script:
        """The request's prompts over its run; BadRequest when they are too long.

        `before` are the calls of the first run (`calls_of`), where this is the second.
        """
        reading = Reading(clip_skip=request.clip_skip, emphasis=request.emphasis)
        timing = Timing(calls_of(request), before, old=request.old_prompt_editing)
        writer = Writer(model.text, shelf=shelf, say=say)
        with self.device.guard():
            return writer.write(
                request.prompt, request.negative_prompt, reading=reading, timing=timing
            )

    def denoiser(
        self, model: Model, script: Script, guidance: Guidance, *, frame: Frame, say: Say
    ) -> Denoiser:
        """The guided denoiser of one run, with the NaN guard around it."""
        run = Run(self.device, model, frame=frame, say=say)
        parts = _branches(run, script.parts)
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
        if script.areas:
            regions = [Region(area.place, _branches(run, area.parts)) for area in script.areas]
            both, alone = regional(both, alone, regions)
            if guidance.idle and any(len(region.parts) > 1 for region in regions):
                alone = prompted(both)
        edits = model.networks.detected.variant is Variant.EDIT and frame.beside is not None
        if edits and guidance.image_scale != 1:
            blind = Run(self.device, model, frame=replace(frame, beside=None), say=say)
            both = near(both, blind.branch(script.negative), guidance.image_scale)
            alone = prompted(both)
        unet = model.networks.unet
        guided = edgeless(steer(both, alone, guidance), unet, frame.tiling)
        return finite(guided, unet, say)

    def decode(self, model: Model, latent: Tensor, *, plan: Plan, say: Say) -> Tensor:
        """One latent (C, H, W) to a picture (8H, 8W, 3) uint8 on the CPU."""
        vae = model.vae
        tile = plan.tile_for(*latent.shape[-2:])
        call = partial(decode, vae.module, scale=vae.dims.scale, tile=tile)
        strips = None if tile is None else (OVERLAP, OVERLAP * FACTOR)
        wraps = partial(unbroken, vae=vae.module, tiling=plan.tiling, strips=strips)

        def run() -> Tensor:
            return wraps(call, latent.unsqueeze(0))

        with self.device.guard():
            return to_bytes(finite_pixels(run, vae.module, say))[0]

    def encode(self, model: Model, pixels: Tensor, *, plan: Plan, say: Say) -> Tensor:
        """Pixels (1, 3, 8H, 8W) in [-1, 1] to a scaled latent (1, C, H, W): the mean."""
        vae = model.vae
        tile = plan.tile_for(*(side // FACTOR for side in pixels.shape[-2:]))
        call = partial(encode, vae.module, scale=vae.dims.scale, tile=tile)
        strips = None if tile is None else (OVERLAP * FACTOR, OVERLAP)
        wraps = partial(unbroken, vae=vae.module, tiling=plan.tiling, strips=strips)

        def run() -> Tensor:
            return wraps(call, pixels)

        with self.device.guard():
            return finite_pixels(run, vae.module, say).float()


def calls_of(request: ResolvedRequest) -> int:
    """The network calls of a run, which the steps written in its prompts are counted in."""
    sampler, _ = find_sampler(request.sampler)
    return request.steps * sampler.prompt_calls


def _branches(run: Run, parts: Sequence[Part]) -> Parts:
    return [(run.branch(part), part.weight) for part in parts]
