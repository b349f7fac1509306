"""Where a sampling run starts, and what it keeps of a picture.

B pictures, C channels; h w are latent sides, the picture's divided by 8.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter
from torch import Tensor
from torch.nn import functional

from darkroom.core.blocks import Fill, Mask
from darkroom.core.model import Variant
from darkroom.core.request import ResolvedRequest
from darkroom.sampling import Mix, Soft, Taking, Wrapper, composite_mask, differential, evenly
from darkroom.tasks.canvas import Canvas
from darkroom.tasks.rig import Rig, to_unit
from darkroom.tasks.seeds import seeds_of
from darkroom.weights.topology import FACTOR

SMOOTH = 4  # px: blur of what a soft mask takes, since latent pixels are coarse
APPROACH = 8  # latent pixels over which the new part of a larger picture comes up to the old one
RISE = 16  # where a mask frees a place a little, no more is taken of it than so many times that


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The latents that a run begins with."""

    clean: Tensor | None = None  # (1 or B, C, h, w), scaled; None: nothing
    strength: float | None = None  # of the noise on it; None: noise alone
    exact: bool = False  # as many steps as were asked for, whatever the strength
    mask: Tensor | None = None  # (1, 1, h, w) in [0, 1]; 1 is painted anew
    mix: Mix = evenly  # what grey in the mask means
    beside: Tensor | None = None  # (1, C + 1 or C, h, w): what inpaint and edit networks see too
    noise_scale: float = 1.0
    extra_noise: float = 0.0
    spread: Wrapper | None = None  # how a network sees a latent that is too large for it: tiles
    before: int = 0  # network calls of the run before; steps in prompts count on from there

    def rows(self, first: int, last: int) -> "Start":
        """That of some of the pictures."""
        if self.clean is None or self.clean.shape[0] == 1:
            return self
        return replace(self, clean=self.clean[first:last])


NOTHING = Start()


def start_of(rig: Rig, request: ResolvedRequest, canvas: Canvas | None, *, images: range) -> Start:
    """Where the first run of `request` starts; NOTHING without a picture.

    Strength 0 gives the picture back: nothing is put on it and no step is made, where A1111 makes
    one at the lowest noise level.
    """
    init = request.init
    if canvas is None or init is None:
        return NOTHING
    rig.fit(request)
    clean = encoded(rig, canvas.picture, request)
    mask, mix = latent_mask(canvas, request), mix_of(request.mask)
    if mask is not None:
        mask, fill = mask.to(clean), _fill(request)
        clean = filled(clean, mask, fill, noise=lambda: _noise(request, images, clean))
        if _approaches(rig, request):
            mask, mix = approaching(mask), differential
    still = init.strength == 0
    return Start(
        clean=clean,
        strength=init.strength,
        exact=init.exact_steps or still,
        mask=mask,
        mix=mix,
        beside=_beside(rig, request, canvas),
        noise_scale=init.noise_multiplier,
        extra_noise=0.0 if still else init.extra_noise,
    )


def taken(rig: Rig, request: ResolvedRequest, canvas: Canvas, latent: Tensor) -> Image.Image | None:
    """How much of a result (C, h, w) the user gets: "L" for `Canvas.back`; None: the mask says.

    With a soft mask that which changed (A1111's composite), with a differential one all of what was
    freed. In both cases it rises from nothing where the mask is black.
    """
    mask = canvas.mask
    if mask is None or request.mask is None or request.mask.softness == "hard":
        return None
    most = mask.point([min(RISE * value, 255) for value in range(256)])
    if request.mask.softness == "differential":
        return most
    changed = _changed(rig, request, canvas, latent).resize(mask.size, Image.Resampling.BICUBIC)
    return ImageChops.darker(most, changed.filter(ImageFilter.GaussianBlur(SMOOTH)))


def encoded(rig: Rig, picture: Image.Image, request: ResolvedRequest) -> Tensor:
    """`picture`, its sides multiples of 8, as a latent (1, C, h, w) of the request's size.

    One of another size is stretched as a latent (A1111's resize mode of that name).
    """
    return _resized(rig.encode(picture), _sides(request))


def latent_mask(canvas: Canvas, request: ResolvedRequest) -> Tensor | None:
    """The mask in latent pixels: (1, 1, h, w) in [0, 1], and where it is hard either of both."""
    if canvas.mask is None:
        return None
    height, width = _sides(request)
    small = canvas.mask.convert("L").resize((width, height), Image.Resampling.BICUBIC)
    found = _unit_mask(small)
    return found if _is_soft(request) else found.round()


def filled(clean: Tensor, mask: Tensor, fill: Fill, *, noise: Callable[[], Tensor]) -> Tensor:
    """`clean` with what the masked part begins with, where the picture does not show it already.

    `noise` gives what the run begins with, (B, C, h, w) of unit spread.
    """
    match fill:
        case "fill" | "original":
            return clean
        case "latent noise":
            return torch.lerp(clean, noise(), mask)
        case "latent nothing":
            return clean * (1 - mask)


def approaching(mask: Tensor) -> Tensor:
    """`mask` (1, 1, h, w), whose white part is the darker the nearer it is to the black one.

    For `differential`: paint that begins with colours drawn out of the picture is laid over them
    from afar, and comes up to the picture at last. So nothing begins that the picture would cut.
    """
    ring = total = mask
    for _ in range(APPROACH - 1):
        ring = -functional.max_pool2d(-ring, 3, 1, 1)  # a ring of latent pixels less
        total = total + ring
    return total / total.max().clamp(min=1)  # nothing is white where the margins are thin


def mix_of(mask: Mask | None) -> Mix:
    """What grey in the mask means during the run."""
    if mask is None:
        return evenly
    match mask.softness:
        case "hard":
            return evenly
        case "soft":
            return Soft(power=mask.soft_power, scale=mask.soft_scale, detail=mask.soft_detail)
        case "differential":
            return differential


def _beside(rig: Rig, request: ResolvedRequest, canvas: Canvas) -> Tensor | None:
    """What the network of an inpainting or edit model is given besides the noisy latent.

    Inpainting: the mask, then the latent of the picture with grey where it is masked; an edit
    model's picture is not scaled (Brooks et al. 2023, as A1111 and diffusers have it).
    """
    match rig.model.networks.detected.variant:
        case Variant.BASE:
            return None
        case Variant.EDIT:
            return encoded(rig, canvas.picture, request) / rig.model.vae.dims.scale
        case Variant.INPAINT:
            return None if canvas.mask is None else _behind(rig, request, canvas, canvas.mask)


def _behind(rig: Rig, request: ResolvedRequest, canvas: Canvas, mask: Image.Image) -> Tensor:
    """The mask and the latent of what it leaves of the picture: (1, C + 1, h, w)."""
    sides = _sides(request)
    pixels = to_unit(canvas.picture).to(rig.engine.device.torch)
    large = _unit_mask(mask.convert("L").resize(canvas.picture.size)).to(pixels)
    if not _is_soft(request):
        large = large.round()
    behind = _resized(rig.fitting.encode(pixels * (1 - large)), sides)
    return torch.cat([functional.interpolate(large, sides).to(behind), behind], dim=1)


def _changed(rig: Rig, request: ResolvedRequest, canvas: Canvas, latent: Tensor) -> Image.Image:
    """How much to take of a result of soft inpainting, by what changed: "L", in latent pixels."""
    mask = request.mask
    found = latent_mask(canvas, request)
    if mask is None or found is None:
        raise ValueError("there is no mask")
    taking = Taking(
        threshold=mask.soft_threshold,
        contrast=mask.soft_contrast,
        influence=mask.soft_influence,
        scale=mask.soft_scale,
    )
    sides = (latent.shape[-2], latent.shape[-1])  # larger than the request's after a second run
    clean = _resized(encoded(rig, canvas.picture, request), sides).to(latent)
    share = composite_mask(clean, latent[None], _resized(found, sides).to(latent), taking)
    return Image.fromarray((255 * share[0, 0]).round().to(torch.uint8).cpu().numpy())


def _noise(request: ResolvedRequest, images: range, clean: Tensor) -> Tensor:
    """The first noise of some pictures: (B, C, h, w)."""
    noise = seeds_of(request, images).start((0.0, 1.0))  # the span matters to later noise alone
    return noise.first(clean.expand(len(images), -1, -1, -1))


def _fill(request: ResolvedRequest) -> Fill:
    asked = request.mask or request.outpaint
    return "original" if asked is None else asked.fill


def _approaches(rig: Rig, request: ResolvedRequest) -> bool:
    """Whether new parts come up to the picture slowly; an inpainting model sees it without that."""
    drawn_out = request.outpaint is not None and _fill(request) in ("fill", "original")
    return drawn_out and rig.model.networks.detected.variant is not Variant.INPAINT


def _is_soft(request: ResolvedRequest) -> bool:
    return request.mask is not None and request.mask.softness != "hard"


def _sides(request: ResolvedRequest) -> tuple[int, int]:
    """Height and width in latent pixels."""
    return request.height // FACTOR, request.width // FACTOR


def _resized(latent: Tensor, sides: tuple[int, int]) -> Tensor:
    if latent.shape[-2:] == sides:
        return latent
    return functional.interpolate(latent, sides, mode="bilinear")


def _unit_mask(mask: Image.Image) -> Tensor:
    """A mask "L" as numbers in [0, 1]: (1, 1, H, W)."""
    return torch.from_numpy(np.array(mask, dtype=np.float32))[None, None] / 255
