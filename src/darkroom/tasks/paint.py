"""Detail painted into a large picture: image-to-image, in tiles that the network can see.

    paint = settled(paint, card, found)                  # nothing left open
    picture = yield from painted(engine, job, paint, card=card, picture=picture)

There is one run and one field of noise; in every step the network sees tile after tile, and its
estimates are blended where tiles overlap (MultiDiffusion, Bar-Tal et al. 2023). So tiles agree
from the first step on, where A1111's script "SD upscale" blends tiles that are finished. What a run
is given beside its picture (`Start.beside`) is the place for a ControlNet.
"""

import secrets
from collections.abc import Generator

import numpy as np
from PIL import Image
from torch import Tensor

from darkroom.core.blocks import Sampled
from darkroom.core.errors import BadRequest
from darkroom.core.event import Event
from darkroom.core.model import ModelCard
from darkroom.core.processing import Paint
from darkroom.core.prompt import networks
from darkroom.core.recipe import resolve
from darkroom.core.request import ImageRequest, ResolvedRequest
from darkroom.engine.engine import Engine
from darkroom.media.metadata import Found
from darkroom.sampling import At, Denoiser, tiles
from darkroom.tasks.job import Job
from darkroom.tasks.passes import opened
from darkroom.tasks.start import Start
from darkroom.weights.topology import FACTOR

LEAST = 64  # px of a side that a network is given


def settled(paint: Paint, card: ModelCard, found: Found | None) -> Paint:
    """The block with nothing left open: what the model recommends, a seed, the picture's prompt.

    `found` is what the picture says about itself.
    """
    own = {"tile": max(LEAST, card.native_size), "seed": secrets.randbelow(2**32)}
    given = {name: value for name, value in paint.model_dump().items() if value is not None}
    said: dict[str, str] = {}
    if found is not None and paint.prompt is None:
        said = {"prompt": networks(found.prompt)[0], "negative_prompt": found.negative_prompt}
    whole = Paint.model_validate(own | said | given)
    if whole.tile is not None and whole.overlap > whole.tile // 2:
        raise BadRequest(
            f"tiles of {whole.tile} px cannot share {whole.overlap} px",
            hint=f"Give a paint overlap of {whole.tile // 2} at most, or larger tiles.",
        )
    request = request_of(whole, card)
    return whole.model_copy(update={name: getattr(request, name) for name in Sampled.model_fields})


def request_of(
    paint: Paint, card: ModelCard, *, size: tuple[int, int] | None = None
) -> ResolvedRequest:
    """The run as a request for a picture of `size`, or else of a tile."""
    side = paint.tile or card.native_size
    asked = {"seed": paint.seed, "width": side, "height": side, **paint.changes()}
    request = resolve(ImageRequest.parse(asked | {"model": card.name}), card)
    if size is None:
        return request
    # Larger than any that may be asked for: the network sees tiles.
    return request.model_copy(update={"width": size[0], "height": size[1]})


def painted(
    engine: Engine, job: Job, paint: Paint, *, card: ModelCard, picture: Image.Image
) -> Generator[Event, None, Image.Image]:
    """`picture`, RGB of any size, with detail painted in; `paint` is settled."""
    if not paint.strength:
        yield Event("warning", {"text": "paint has no effect: its strength is 0"})
        return picture
    large = grown(picture)
    request = request_of(paint, card, size=large.size)
    words, tags = networks(request.prompt)
    if tags:
        told = "networks in the prompt of paint have no effect: LoRAs are for pictures from prompts"
        yield Event("warning", {"text": told})
        request = request.model_copy(update={"prompt": words})
    with opened(engine, engine.model(card), request, job=job) as passes:
        yield from passes.drain()
        start = Start(
            clean=passes.rig.encode(large),
            strength=paint.strength,
            spread=lambda inner: tiles(
                checked(inner, job), (paint.tile or 0) // FACTOR, paint.overlap // FACTOR
            ),
        )
        latents = yield from passes.run(request, range(1), start, stage="paint")
        made = passes.rig.decode(latents[0])
        yield from passes.drain()
    return made.crop((0, 0, *picture.size))


def checked(inner: Denoiser, job: Job) -> Denoiser:
    """`inner`, which stops before a tile when the user wants to."""

    def denoise(x: Tensor, at: At) -> Tensor:
        job.check()
        return inner(x, at)

    return denoise


def grown(picture: Image.Image) -> Image.Image:
    """`picture` with its last column and row repeated until a network takes it."""
    pixels = np.asarray(picture)
    more = [max(LEAST - side, -side % FACTOR) for side in pixels.shape[:2]]
    return Image.fromarray(np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge"))
