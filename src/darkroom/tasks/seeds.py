"""Which noise the pictures of a request get: seeds that count up, as in A1111."""

from darkroom.core.fields import MAX_SEED
from darkroom.core.request import ResolvedRequest
from darkroom.sampling import Seeds, Variation
from darkroom.weights.topology import FACTOR


def seed_of(request: ResolvedRequest, image: int) -> int:
    """The seed of a picture; those of one variation share theirs, as in A1111."""
    return request.seed if request.variation_strength else _counted(request.seed, image)


def variation_seed_of(request: ResolvedRequest, image: int) -> int | None:
    """The seed of the noise that is mixed into a picture, if one is."""
    if not request.variation_strength or request.variation_seed is None:
        return None
    return _counted(request.variation_seed, image)


def seeds_of(request: ResolvedRequest, images: range) -> Seeds:
    """Which noise some pictures of the request get."""
    variation = None
    if request.variation_strength:
        seeds = tuple(variation_seed_of(request, image) or 0 for image in images)
        variation = Variation(seeds=seeds, strength=request.variation_strength)
    return Seeds(
        values=tuple(seed_of(request, image) for image in images),
        source=request.rng,
        variation=variation,
        resize_from=_resize_from(request),
        ensd=request.ensd,
    )


def _resize_from(request: ResolvedRequest) -> tuple[int, int] | None:
    """Height and width, in latent pixels, of the picture whose noise is used."""
    width, height = request.seed_resize_width, request.seed_resize_height
    if width is None and height is None:
        return None
    return (height or request.height) // FACTOR, (width or request.width) // FACTOR


def _counted(seed: int, image: int) -> int:
    return (seed + image) % (MAX_SEED + 1)
