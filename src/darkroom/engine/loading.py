"""From model cards to models that run: what is in memory is taken, what is not is read.

Loader(device, tokenizer, encodings, cache_bytes=...).model(card, vae_card) -> Model
"""

import json
import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from darkroom.core.errors import BadFile, BadRequest, OutOfMemory
from darkroom.core.model import Arch, ModelCard
from darkroom.engine.conditioning import Encodings
from darkroom.engine.device import Device
from darkroom.engine.latent import SD_PREVIEW, SDXL_PREVIEW
from darkroom.engine.models import Checkpoint, Model, ModelCache, Part
from darkroom.engine.networks import Placement, Vae, load_networks, load_vae
from darkroom.engine.text import TextEncoder
from darkroom.engine.tokenizer import Tokenizer
from darkroom.sampling import NoiseTable
from darkroom.weights.detect import Detected, detect, detect_vae
from darkroom.weights.header import Header, read_header
from darkroom.weights.layouts.entry import Entry
from darkroom.weights.topology import FACTOR, SD_SCALE, SDXL_SCALE, VaeDims

T = TypeVar("T")
SDXL_LIKE = (Arch.SDXL, Arch.SDXL_REFINER)  # of its latents; all others have SD1's


class Loader:
    """The models of one device, as many as the budget holds."""

    def __init__(
        self, device: Device, tokenizer: Tokenizer, encodings: Encodings, *, cache_bytes: int
    ) -> None:
        self._device, self._tokenizer, self._encodings = device, tokenizer, encodings
        self._cache = ModelCache(cache_bytes)

    def model(self, card: ModelCard, vae: ModelCard | None = None) -> Model:
        """The checkpoint of `card` with the VAE of another file, or else its own.

        BadRequest when there is neither, BadFile when the two do not fit.
        """
        return self._with_room(lambda: self._model(card, vae), _keys(card, vae))

    def _model(self, card: ModelCard, vae: ModelCard | None) -> Model:
        file, keys = _File(Path(card.path)), _keys(card, vae)
        base = self._cache.find(keys[0], Checkpoint)
        detected = file.detected if base is None else base.networks.detected
        if vae is None and detected.vae is None:
            beside = f"{Path(card.path).stem}.vae.safetensors"
            hint = f"Name one with --vae, or put one beside it as {beside}."
            raise BadRequest(f"{card.name} has no VAE, which makes pictures of latents", hint=hint)
        if base is None:
            self._make_room(_layout_rows(detected), keys)
            base = self._checkpoint(card, file)
            self._cache.keep(keys[0], base)
        made = self._cache.find(keys[1], Vae)
        if made is None:
            source = _own(file) if vae is None else _external(vae, detected)
            self._make_room(source.rows, keys)
            with self._device.guard():
                made = load_vae(
                    source.header, source.dims, rows=source.rows, placement=self._placement
                )
            self._cache.keep(keys[1], made)
        return base.with_vae(made, vae)

    def other(
        self, key: Hashable, kind: type[Part], size: int, *, make: Callable[[], Part]
    ) -> Part:
        """A network that is no part of a checkpoint; made where it is not here, `size` bytes."""
        found = self._cache.find(key, kind)
        if found is None:
            self._cache.make_room(size, (key,))
            found = self._with_room(make, (key,))
            self._cache.keep(key, found)
        return found

    def drop_others(self, model: Model | None) -> None:
        """Give up all but what `model` is made of."""
        self._cache.drop_others(() if model is None else _keys(model.card, model.vae_card))

    @property
    def _placement(self) -> Placement:
        device = self._device
        return Placement(
            device=device.torch, dtype=device.dtype, channels_last=device.channels_last
        )

    def _with_room(self, load: Callable[[], T], keep: tuple[Hashable, ...]) -> T:
        """What `load` loads; where memory runs out it is tried again with only `keep` in it."""
        try:
            with self._device.guard():
                return load()
        except OutOfMemory:
            self._cache.drop_others(keep)
            self._device.empty_cache()
        with self._device.guard():
            return load()

    def _make_room(self, rows: Iterable[Entry], keep: tuple[Hashable, ...]) -> None:
        """Room in the cache for the tensors of these rows."""
        numbers = sum(math.prod(row.shape) for row in rows)
        self._cache.make_room(numbers * self._device.dtype.itemsize, keep)

    def _checkpoint(self, card: ModelCard, file: "_File") -> Checkpoint:
        detected = file.detected
        with self._device.guard():
            networks = load_networks(file.header, detected, self._placement)
        table = NoiseTable.zero_terminal if detected.zero_snr else NoiseTable.stable_diffusion
        return Checkpoint(
            card=card,
            networks=networks,
            text=TextEncoder(
                networks.texts, self._tokenizer, weights=card.sha256, cache=self._encodings
            ),
            table=table(),
            preview=preview_matrix(card),
        )


class _File:
    """A checkpoint's file, which is looked into once, and only if something is not here yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def header(self) -> Header:
        return read_header(self.path)

    @cached_property
    def detected(self) -> Detected:
        return detect(self.header)


@dataclass(frozen=True, slots=True)
class _VaeSource:
    """Where the tensors of a VAE lie."""

    header: Header
    dims: VaeDims
    rows: tuple[Entry, ...]


def _own(file: _File) -> _VaeSource:
    """The VAE of a checkpoint that has one."""
    dims = file.detected.vae
    if dims is None:
        raise BadFile(f"{file.path} changed while it was used: its VAE is gone", hint="Try again.")
    return _VaeSource(file.header, dims, file.detected.layout["vae"])


def _external(card: ModelCard, detected: Detected) -> _VaeSource:
    """The VAE in the file of `card`, for this checkpoint.

    What latents are multiplied by is the checkpoint's: a file with a VAE alone rarely says for
    which family it is, and the two families' tensors have the same shapes.
    """
    header = read_header(Path(card.path))
    found = detect_vae(header)
    channels, wanted = found.dims.latent_channels, detected.unet.out_channels
    if (channels, found.dims.factor) != (wanted, FACTOR):
        raise BadFile(
            f"{card.name} is a VAE for other models: its latents have {channels} channels and"
            f" 1/{found.dims.factor} of the picture's side, not {wanted} and 1/{FACTOR}",
            hint="Choose another VAE, or --vae baked.",
        )
    scale = SDXL_SCALE if detected.arch in SDXL_LIKE else SD_SCALE
    if detected.vae is not None:
        scale = detected.vae.scale
    return _VaeSource(header, replace(found.dims, scale=scale), found.rows)


def _layout_rows(detected: Detected) -> Iterable[Entry]:
    """The rows of everything but the VAE."""
    return chain.from_iterable(rows for name, rows in detected.layout.items() if name != "vae")


def _keys(card: ModelCard, vae: ModelCard | None) -> tuple[Hashable, Hashable]:
    """What the checkpoint and its VAE are called in the cache."""
    source = card if vae is None else vae
    return ("checkpoint", card.sha256), ("vae", source.sha256, card.arch in SDXL_LIKE)


def preview_matrix(card: ModelCard) -> Tensor:
    """Latent to RGB in [-1, 1] for previews, (C + 1, 3), the offset last.

    A model may bring its own in its metadata, for RGB in [0, 1]: `darkroom.latent_rgb`.
    """
    known = torch.tensor(SDXL_PREVIEW if card.arch in SDXL_LIKE else SD_PREVIEW)
    try:
        own = torch.tensor(json.loads(card.metadata["darkroom.latent_rgb"]), dtype=torch.float32)
    except (KeyError, ValueError, TypeError, RecursionError):
        return known
    if own.shape != known.shape or not bool(torch.isfinite(own).all()):
        return known
    own *= 2
    own[-1] -= 1
    return own
