"""A picture made larger, by a filter or by a network as often as it takes.

    larger = enlarge(engine, job, picture, size=(1024, 768), upscaler="4x-UltraSharp")

Networks enlarge by whole numbers of their own: what is missing is done once more, and what is too
much is taken away by Lanczos. One that does not enlarge is used once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from PIL import Image

from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.model import Kind, ModelCard
from darkroom.core.packaged import packaged_names
from darkroom.core.processing import AUTO
from darkroom.engine.engine import Engine
from darkroom.engine.mosaic import Tiling
from darkroom.engine.upscaler import SMALLEST, TILING
from darkroom.media.picture import MOST_PIXELS
from darkroom.tasks.job import Job
from darkroom.weights.upscaler_files import builtin

FILTERS: Mapping[str, Image.Resampling] = MappingProxyType(
    {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}
)
MOST_MADE = 1024  # px: side of an enlarged tile, unless a tile is asked for


@dataclass(frozen=True, slots=True)
class Target:
    """The size that a picture is enlarged to, and that of its middle, which is kept; px."""

    enlarged: tuple[int, int]
    size: tuple[int, int]

    def box(self, unit: int = 1) -> tuple[int, int, int, int]:
        """The middle, as Pillow crops; its corner is at multiples of `unit` px."""
        left, top = (
            (whole - kept) // 2 // unit * unit
            for whole, kept in zip(self.enlarged, self.size, strict=True)
        )
        return left, top, left + self.size[0], top + self.size[1]


def enlarge(
    engine: Engine,
    job: Job,
    picture: Image.Image,
    *,
    size: tuple[int, int],
    upscaler: str = AUTO,
    tiling: Tiling = TILING,
    say: Callable[[str], None] = lambda text: None,
) -> Image.Image:
    """`picture` at `size` (width, height), by Lanczos, Nearest, "auto" or a network's name.

    `tiling` is of what the network is given. `say` is told in words when it must be done another
    way. Cancelled between two tiles when the user wants to stop.
    """
    way = FILTERS.get(upscaler.casefold())
    if way is not None:
        return resized(picture, size, way)
    if too_small(picture.size, size):
        network = engine.upscaler(card_of(upscaler, job))
        tiling = limited(tiling, network.scale)
        while too_small(picture.size, size):
            check_size(tuple(network.scale * side for side in picture.size))
            before = picture.size
            picture = network(picture, tiling, check=job.check, say=say)
            if picture.size == before:
                break
    return resized(picture, size, Image.Resampling.LANCZOS)


def limited(tiling: Tiling, scale: int) -> Tiling:
    """`tiling` with smaller tiles where its usual ones would take gigabytes once enlarged.

    On a CPU nothing says that memory runs out before it has. Tiles of a size of the user's own
    stay.
    """
    if tiling.tile != TILING.tile:
        return tiling
    tile = min(tiling.tile, max(SMALLEST, MOST_MADE // scale))
    return replace(tiling, tile=tile, overlap=min(tiling.overlap, tile // 2))


def card_of(upscaler: str, job: Job) -> ModelCard:
    """The file of a network by its name in a request; UnknownName where there is none."""
    card = job.cards.get((Kind.UPSCALER, upscaler)) or builtin(upscaler)
    if card is None:
        raise UnknownName("upscaler", upscaler, (*FILTERS, AUTO, *packaged_names(Kind.UPSCALER)))
    return card


def too_small(size: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """Whether a picture of `size` must be enlarged to cover `wanted`."""
    return size[0] < wanted[0] or size[1] < wanted[1]


def resized(
    picture: Image.Image, size: tuple[int, int], way: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """`picture` at `size`; the same object where it has it already."""
    return picture if picture.size == size else picture.resize(size, way)


def check_size(size: tuple[int, ...]) -> None:
    """BadRequest when a picture on the way is larger than any that can be read again."""
    if size[0] * size[1] > MOST_PIXELS:
        raise BadRequest(
            f"that would be a picture of {size[0]:,} x {size[1]:,} pixels on the way, and"
            f" {MOST_PIXELS // 10**6} million are the most",
            hint="Choose a smaller size, or an upscaler that enlarges less at a time.",
        )
