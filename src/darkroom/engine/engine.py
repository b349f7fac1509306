"""One device: loads models, plans, and gives tasks the denoiser that their loop calls."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from darkroom.core.model import ModelCard
from darkroom.core.request import ResolvedRequest
from darkroom.core.sampler_table import find_sampler
from darkroom.engine.adapters import ADAPTERS, AdapterCache
from darkroom.engine.conditioning import Encodings
from darkroom.engine.device import Device
from darkroom.engine.latent import decode, to_bytes
from darkroom.engine.loading import Loader
from darkroom.engine.models import Model
from darkroom.engine.plan import Plan, Work, costs_of, make_plan
from darkroom.engine.precision import finite, finite_pixels
from darkroom.engine.run import Frame, Run, Say
from darkroom.engine.script import Script, Timing, Writer
from darkroom.engine.shelf import Shelf
from darkroom.engine.text import Reading
from darkroom.engine.tokenizer import Tokenizer
from darkroom.sampling import (
    Denoiser,
    Guidance,
    NoiseTable,
    compose,
    composed,
    steer,
    table_for,
    together,
)


class Engine:
    """Runs networks on one device. One job at a time: not thread-safe."""

    def __init__(self, device: Device, *, cache_bytes: int) -> None:
        self.device = device
        self._tokenizer = Tokenizer()
        self._encodings = Encodings()
        self._loader = Loader(device, self._tokenizer, self._encodings, cache_bytes=cache_bytes)
        self.adapters = AdapterCache(min(ADAPTERS, cache_bytes // 4))

    def model(self, card: ModelCard, vae: ModelCard | None = None) -> Model:
        """The checkpoint of `card`, with the VAE of another file or its own.

        What is in memory is not read again: another VAE is no other checkpoint.
        """
        return self._loader.model(card, vae)

    def shelf(self, files: Mapping[str, Path]) -> Shelf:
        """Embeddings by the words for them, for `Shelf.words`."""
        return Shelf(self._tokenizer, files)

    def forget_prompts(self) -> None:
        """Drop every encoded prompt."""
        self._encodings.clear()

    def make_room(self, model: Model) -> None:
        """After an out-of-memory: give up every other model, encoded prompts and torch's cache."""
        self._loader.drop_others(model)
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
        run = Run(self.device, model, frame=frame, say=say)
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
        vae = model.vae

        def run() -> Tensor:
            return decode(vae.module, latent.unsqueeze(0), scale=vae.dims.scale, tile=plan.tile)

        with self.device.guard():
            return to_bytes(finite_pixels(run, vae.module, say))[0]
