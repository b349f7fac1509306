"""How a request is run on a device: the plan, and what it will cost in memory.

The prediction is a formula over shapes with constants that `bench/memory.py` measured (peak
resident memory of the starter and of a full-size SD1.5 on a CPU); it is meant to be right
within a quarter, and to be on the high side.
"""

from dataclasses import asdict, dataclass, replace

from darkroom.weights.detect import Detected

UNET_FACTOR = 14  # live copies of the widest feature map during one UNet call
VAE_FACTOR = 6  # the same for the decoder, at full resolution
LEAST_TILE = 16  # latent pixels: below this the overlap is most of a tile
TILE = 64  # latent pixels: 512 px of picture
MAX_BATCH = 8  # pictures in one call on an accelerator; more gains nothing there


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to run a request."""

    batch: int  # pictures per network call
    split_guidance: bool  # both branches of guidance in two calls instead of one
    tile: int | None  # side of a VAE tile in latent pixels; None decodes in one piece
    model_bytes: int  # weights, already on the device
    sampling_bytes: int  # predicted peak of one network call
    decoding_bytes: int  # predicted peak of decoding one picture

    @property
    def bytes(self) -> int:
        """Predicted peak of the whole run."""
        return self.model_bytes + max(self.sampling_bytes, self.decoding_bytes)

    def smaller_sampling(self) -> "Plan | None":
        """The next smaller way to sample, or None when there is none."""
        if self.batch > 1:
            half = self.batch // 2
            return replace(
                self, batch=half, sampling_bytes=self.sampling_bytes * half // self.batch
            )
        if not self.split_guidance:
            return replace(self, split_guidance=True, sampling_bytes=self.sampling_bytes // 2)
        return None

    def smaller_decoding(self) -> "Plan | None":
        """The next smaller way to decode, or None when there is none."""
        tile = TILE if self.tile is None else self.tile // 2
        if tile < LEAST_TILE:
            return None
        return replace(self, tile=tile, decoding_bytes=self.decoding_bytes // 4)

    def smaller(self) -> "Plan | None":
        """The next smaller plan of all, whichever part ran out."""
        if self.decoding_bytes >= self.sampling_bytes:
            return self.smaller_decoding() or self.smaller_sampling()
        return self.smaller_sampling() or self.smaller_decoding()

    def describe(self) -> str:
        """The plan in a few words."""
        parts = [f"{self.batch} picture{'s' if self.batch > 1 else ''} at a time"]
        if self.split_guidance:
            parts.append("guidance in two calls")
        if self.tile is not None:
            parts.append(f"decoded in tiles of {self.tile * 8} px")
        return f"{', '.join(parts)} (about {self.bytes / 2**20:,.0f} MiB)"

    def record(self) -> dict[str, int | str | bool | None]:
        """What of the plan can matter to the pixels, for the recipe."""
        own = asdict(self)
        return {name: own[name] for name in ("batch", "split_guidance", "tile")}


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of the device."""

    width: int  # pixels
    height: int  # pixels
    count: int
    guided: bool  # cfg_scale above 1: two branches


def make_plan(
    detected: Detected, work: Work, *, item_bytes: int, model_bytes: int, free: int, cpu: bool
) -> Plan:
    """The roomiest plan that fits into `free` bytes; the smallest there is when none fits.

    On a CPU pictures go one by one: that is as fast, and makes picture k of a request the same
    to the last bit as that picture alone, which no batched matrix product promises.
    """
    area = work.width * work.height
    unet = UNET_FACTOR * detected.unet.channels[0] * (area // 64) * item_bytes
    vae = VAE_FACTOR * detected.vae.channels[0] * area * item_bytes
    branches = 2 if work.guided else 1
    batch = 1 if cpu else min(work.count, MAX_BATCH)
    plan: Plan | None = Plan(
        batch=batch,
        split_guidance=False,
        tile=None,
        model_bytes=model_bytes,
        sampling_bytes=unet * branches * batch,
        decoding_bytes=vae,
    )
    while plan is not None:
        best = plan
        if plan.bytes - plan.model_bytes <= free:
            return plan
        plan = plan.smaller()
    return best
