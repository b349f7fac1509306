"""How a request is run on a device: the plan, and what it will cost in memory.

The prediction is a formula over shapes, with constants from `bench/memory.py` (peak resident memory
of a small network and of full-size SD1.5 and SDXL on a CPU): equal to what was measured or above
it, by half at the most for SD1.5, less than twice for SDXL.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from darkroom.core.blocks import Tiling
from darkroom.weights.topology import FACTOR, UNetDims, VaeDims

UNET_FACTOR = 24  # live copies of a level's feature map in its transformers, during one UNet call
PLAIN_FACTOR = 10  # the same of a level without transformers, such as SDXL's first
VAE_FACTOR = 8  # the same for the decoder, at full resolution
TILES = (64, 32, 16)  # latent pixels; below 16 the overlap is most of a tile
BLEND_BYTES = 4 * (3 + 1 + 3)  # per pixel: sum and weight of the tiles, and their quotient
MIB = 1 << 20
CHOICES = ("split_guidance", "tile")  # of a plan, that can matter to the last bit
MAX_BATCH = 8  # pictures in one call on an accelerator; more gains nothing there

Record = dict[str, int | str | bool | None]  # of a plan, in a recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the parts of a run take, in bytes."""

    model: int  # weights, already on the device
    branch: int  # one network call for one picture and one branch of guidance
    reordered: int  # the weights that a convolution library lays out anew
    pixel: int  # decoding, for each pixel of what is decoded at once
    blended: int  # a tiled picture while it is put together


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to run a request."""

    costs: Costs
    width: int  # pixels
    height: int  # pixels
    branches: int  # 1 without guidance, else 2
    batch: int  # pictures per network call
    split_guidance: bool = False  # both branches of guidance in two calls instead of one
    tile: int | None = None  # side of a VAE tile in latent pixels; None decodes in one piece
    tiling: Tiling = "none"  # axes along which the picture goes on at its opposite edge
    alone: bool = False  # nothing else is in memory

    @property
    def size(self) -> str:
        """What it is for."""
        return f"{self.width}x{self.height}"

    @property
    def sampling_bytes(self) -> int:
        """Predicted peak of one network call."""
        together = 1 if self.split_guidance else self.branches
        return self.costs.branch * self.batch * together + self.costs.reordered

    @property
    def decoding_bytes(self) -> int:
        """Predicted peak of decoding one picture."""
        if self.tile is None:
            return self.costs.pixel * self.width * self.height
        side = self.tile * FACTOR
        at_once = min(side, self.width) * min(side, self.height)
        return self.costs.pixel * at_once + self.costs.blended

    @property
    def working_bytes(self) -> int:
        """Predicted peak beyond the weights."""
        return max(self.sampling_bytes, self.decoding_bytes)

    def tile_for(self, height: int, width: int) -> int | None:
        """Side of the tiles in which a latent of that size is decoded, or a picture encoded.

        None: in one piece. What is larger than was planned for (a photo that is stretched as a
        latent) is cut to pieces about as large as that: the plan promised memory for no more.
        """
        tile = self.tile
        if tile is None and height * width * FACTOR**2 > self.width * self.height:
            tile = max(TILES[0], self.width // FACTOR, self.height // FACTOR)
        return None if tile is None or max(height, width) <= tile else tile

    def smaller_sampling(self) -> "Plan | None":
        """The next smaller way to sample, or None when there is none."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.branches > 1 and not self.split_guidance:
            return replace(self, split_guidance=True)
        return None

    def smaller_decoding(self) -> "Plan | None":
        """The next smaller way to decode, or None when there is none."""
        longest = max(self.width, self.height) // FACTOR
        tile = next((t for t in TILES if t < (self.tile or longest)), None)
        return None if tile is None else replace(self, tile=tile)

    def smaller(self) -> "Plan | None":
        """The next smaller plan: the part that takes most first."""
        if self.decoding_bytes >= self.sampling_bytes:
            return self.smaller_decoding() or self.smaller_sampling()
        return self.smaller_sampling() or self.smaller_decoding()

    def describe(self) -> str:
        """The plan in a few words."""
        parts = [f"{self.batch} picture{'s' if self.batch > 1 else ''} at a time"]
        if self.split_guidance:
            parts.append("guidance in two calls")
        if self.tile is not None:
            parts.append(f"decoded in tiles of {self.tile * FACTOR} px")
        total = self.costs.model + self.working_bytes
        return f"{', '.join(parts)} (about {total / MIB:,.0f} MiB)"

    def as_recorded(self, record: Mapping[str, object]) -> "Plan":
        """This plan with the choices of a `record`, as far as they can matter to a bit.

        What stands there under this plan's size goes before what is said of all.
        """
        split, tile = (record.get(f"{name} {self.size}", record.get(name)) for name in CHOICES)
        recorded = tile if isinstance(tile, int) and tile >= FACTOR else None
        return replace(
            self,
            split_guidance=self.split_guidance or split is True,
            tile=recorded if self.tile is None else self.tile,
        )

    def record(self) -> Record:
        """What of the plan can matter to the last bit of a pixel, for the recipe."""
        return {"batch": self.batch, "split_guidance": self.split_guidance, "tile": self.tile}

    def beside(self, main: "Plan") -> Record:
        """The choices of a run beside that of `main`, where they are others, under its size."""
        mine, others = self.record(), main.record()
        return {f"{name} {self.size}": mine[name] for name in CHOICES if mine[name] != others[name]}


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of the device."""

    width: int  # pixels
    height: int  # pixels
    count: int
    guided: bool  # cfg_scale above 1: two branches


def costs_of(
    unet: UNetDims, vae: VaeDims, work: Work, *, item_bytes: int, model_bytes: int
) -> Costs:
    """The predicted costs of `work` for networks of these dimensions."""
    area = work.width * work.height
    deepest = unet.channels[-1]
    return Costs(
        model=model_bytes,
        branch=_widest(unet) * (area // FACTOR**2) * item_bytes,
        # The largest is the first convolution of the way up: 3 x 3 from twice the deepest width.
        reordered=2 * 9 * deepest**2 * item_bytes,
        pixel=VAE_FACTOR * vae.channels[0] * item_bytes,
        blended=BLEND_BYTES * area,
    )


def _widest(unet: UNetDims) -> int:
    """Numbers alive at once during a call, for each latent pixel: those of the costliest level."""
    return max(
        (UNET_FACTOR if depth else PLAIN_FACTOR) * (width >> 2 * level)
        for level, (width, depth) in enumerate(zip(unet.channels, unet.depths, strict=True))
    )


def make_plan(costs: Costs, work: Work, *, free: int, cpu: bool) -> Plan:
    """The roomiest plan that fits into `free` bytes; the smallest there is when none fits.

    On a CPU pictures go one by one: that is as fast, and makes picture k of a request the same
    to the last bit as that picture alone, which no batched matrix product promises.
    """
    plan = Plan(
        costs=costs,
        width=work.width,
        height=work.height,
        branches=2 if work.guided else 1,
        batch=1 if cpu else min(work.count, MAX_BATCH),
    )
    while plan.working_bytes > free and (smaller := plan.smaller()) is not None:
        plan = smaller
    return plan
