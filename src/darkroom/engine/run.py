"""One run of the UNet: prompts are bound to it call by call, with all else that a family is given.

                      is given besides the noisy latent, its time and the text
    SDXL              the text as a whole, and sizes: of the original picture, where it was cropped,
                      of the picture to be made; Podell et al. 2023
    its refiner       the same, with an aesthetic score for the last: high, or low in what to avoid
    inpainting        a mask and the latent of the picture with grey behind it
    instruct-pix2pix  the latent of the picture to edit, not scaled

The last two come with `Frame.beside`. Without a picture everything is masked, as in A1111, and the
picture to edit is nothing (zeros).

B batch, C latent channels, H W latent height and width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from darkroom.core.blocks import Tiling
from darkroom.core.model import Arch, Variant
from darkroom.engine.conditioning import Conditioning, same_length
from darkroom.engine.device import Device
from darkroom.engine.latent import encode
from darkroom.engine.models import Model
from darkroom.engine.precision import finite_pixels
from darkroom.engine.script import Part
from darkroom.sampling import At, Branches, Denoiser, NoiseTable, apart, predict
from darkroom.weights.topology import FACTOR

Say = Callable[[str], None]

HIGH_SCORE, LOW_SCORE = 6.0, 2.5  # aesthetic scores that A1111 asks the refiner for


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How a run calls the network."""

    table: NoiseTable  # `Engine.table`
    batch: int  # pictures
    split: bool = False  # never more than one prompt in a call
    tiling: Tiling = "none"  # axes along which the picture goes on at its opposite edge
    beside: Tensor | None = None  # (1, 5 or 4, H, W): what inpainting and edit networks see too


class Run:
    """The network of one run."""

    def __init__(self, device: Device, model: Model, *, frame: Frame, say: Say) -> None:
        self._device, self._model, self._frame, self._say = device, model, frame, say
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
            self._bound = prompts, self._with(prompts)
        return self._bound[1]

    def _with(self, prompts: tuple[Conditioning, ...]) -> Denoiser:
        unet, batch = self._model.networks.unet, self._frame.batch
        tokens = torch.cat([one.tokens.expand(batch, -1, -1) for one in prompts])
        arch = self._model.networks.detected.arch
        added = cache(
            lambda height, width: _added(prompts, arch, batch=batch, latent=(height, width))
        )

        def network(x: Tensor, t: Tensor) -> Tensor:
            weight = unet.conv_in.weight  # of the moment: the NaN guard changes its format
            with self._device.guard():
                out: Tensor = unet(
                    self._beside(x).to(weight),
                    t,
                    tokens.to(weight),
                    added_cond_kwargs=added(*x.shape[2:]),
                    return_dict=False,
                )[0]
            return out.to(x.dtype)

        return predict(network, self._frame.table, self._model.networks.detected.prediction)

    def _beside(self, x: Tensor) -> Tensor:
        """`x` (B, C, H, W) with the channels that the model's variant expects beside it."""
        variant, given = self._model.networks.detected.variant, self._frame.beside
        if variant is Variant.BASE:
            return x
        beside = self._nothing(x, variant) if given is None else given.to(x)
        return torch.cat([x, beside.expand(len(x), -1, -1, -1)], dim=1)

    def _nothing(self, x: Tensor, variant: Literal[Variant.INPAINT, Variant.EDIT]) -> Tensor:
        """What stands for no picture: (1, C + 1, H, W) or (1, C, H, W)."""
        match variant:
            case Variant.INPAINT:
                return torch.cat([torch.ones_like(x[:1, :1]), self._grey(x)], dim=1)
            case Variant.EDIT:
                return torch.zeros_like(x[:1])

    def _grey(self, x: Tensor) -> Tensor:
        """The latent (1, C, H, W) of a grey picture of this size, encoded once."""
        vae = self._model.vae
        known = vae.grey
        size = tuple(x.shape[2:])
        if size not in known:
            pixels = x.new_zeros(1, 3, *(FACTOR * side for side in size))
            with self._device.guard():
                known[size] = finite_pixels(
                    lambda: encode(vae.module, pixels, scale=vae.dims.scale), vae.module, self._say
                )
        return known[size].to(x)


def _added(
    prompts: tuple[Conditioning, ...], arch: Arch, *, batch: int, latent: tuple[int, int]
) -> Mapping[str, Tensor]:
    """What SDXL is given of texts as wholes and of sizes, by diffusers' names for it."""
    wholes = [one.pooled for one in prompts if one.pooled is not None]
    if not wholes:
        return {}
    sizes = torch.tensor([_sizes(arch, latent, negative=one.negative) for one in prompts])
    return {
        "text_embeds": torch.cat([one.expand(batch, -1) for one in wholes]),
        "time_ids": sizes.repeat_interleave(batch, 0).to(wholes[0].device),
    }


def _sizes(arch: Arch, latent: tuple[int, int], *, negative: bool) -> list[float]:
    """The numbers that describe a picture of `latent` (H, W): heights before widths."""
    size = [float(FACTOR * side) for side in latent]
    if arch is Arch.SDXL_REFINER:
        return [*size, 0.0, 0.0, LOW_SCORE if negative else HIGH_SCORE]
    return [*size, 0.0, 0.0, *size]
