"""How programs name the parts of an RRDBNet, the network of ESRGAN and Real-ESRGAN.

Our own names are Real-ESRGAN's. A dialect is a row; `{block}`, `{dense}`, `{conv}` and `{up}` are
numbers in it. The oldest files number the modules of one long sequence, in which each enlarging
takes three places: so what follows depends on how many there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from darkroom.weights.layouts.entry import Entry, layer, same
from darkroom.weights.topology import RrdbDims

DENSE = range(1, 4)  # dense blocks in a block
CONVS = range(1, 6)  # convolutions in a dense block

# What other programs put in front of every name. Of two sets the averaged one counts.
WRAPPERS = ("", "params_ema.", "params.", "module.", "generator.", "netG.", "net_g.", "model.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The names of one program."""

    first: str
    conv: str  # of a dense block
    beside: str  # ESRGAN+: what is added to the second convolution's output
    trunk: str  # after all blocks
    up: str  # after each doubling
    large: str  # at the final size
    last: str

    def names(self, dims: RrdbDims) -> Iterator[tuple[str, str]]:
        """Name here and our name of every convolution, in the order of the picture's way."""
        counted = {"blocks": dims.blocks, "large": 3 * dims.doublings + 2}
        counted["last"] = counted["large"] + 2
        yield self.first, OURS.first
        for block in range(dims.blocks):
            for dense in DENSE:
                place = {"block": block, "dense": dense}
                for conv in CONVS:
                    yield _both("conv", self, **place, conv=conv)
                if dims.beside:
                    yield _both("beside", self, **place)
        yield self.trunk.format(**counted), OURS.trunk
        for up in range(1, dims.doublings + 1):
            yield _both("up", self, up=up, module=3 * up)
        yield self.large.format(**counted), OURS.large
        yield self.last.format(**counted), OURS.last


def _both(part: str, dialect: Dialect, **numbers: int) -> tuple[str, str]:
    here: str = getattr(dialect, part)
    ours: str = getattr(OURS, part)
    return here.format(**numbers), ours.format(**numbers)


OURS = Dialect(
    first="conv_first",
    conv="body.{block}.rdb{dense}.conv{conv}",
    beside="body.{block}.rdb{dense}.conv1x1",
    trunk="conv_body",
    up="conv_up{up}",
    large="conv_hr",
    last="conv_last",
)
ESRGAN = Dialect(
    first="conv_first",
    conv="RRDB_trunk.{block}.RDB{dense}.conv{conv}",
    beside="RRDB_trunk.{block}.RDB{dense}.conv1x1",
    trunk="trunk_conv",
    up="upconv{up}",
    large="HRconv",
    last="conv_last",
)
OLD_ESRGAN = Dialect(
    first="model.0",
    conv="model.1.sub.{block}.RDB{dense}.conv{conv}.0",
    beside="model.1.sub.{block}.RDB{dense}.conv1x1",
    trunk="model.1.sub.{blocks}",
    up="model.{module}",
    large="model.{large}",
    last="model.{last}",
)
DIALECTS = (OURS, ESRGAN, OLD_ESRGAN)


def rows_of(dims: RrdbDims, dialect: Dialect, prefix: str = "") -> Iterator[Entry]:
    """The rows of a whole network; in files every name has `prefix` in front."""
    shapes = shapes_of(dims)
    for here, ours in dialect.names(dims):
        if ours.endswith(".conv1x1"):
            yield same(f"{prefix}{here}.weight", f"{ours}.weight", *shapes[ours])
        else:
            yield from layer(prefix + here, ours, *shapes[ours])


def shapes_of(dims: RrdbDims) -> dict[str, tuple[int, ...]]:
    """The shape of every weight, by our names, (out, in, height, width)."""
    wide, growth = dims.features, dims.growth
    shapes: dict[str, tuple[int, ...]] = {}
    for _, name in OURS.names(dims):
        match name.rpartition(".")[2]:
            case "conv1x1":
                shapes[name] = (growth, wide, 1, 1)
            case "conv5":
                shapes[name] = (wide, wide + 4 * growth, 3, 3)
            case OURS.first:
                shapes[name] = (wide, dims.channels * dims.shuffle**2, 3, 3)
            case OURS.last:
                shapes[name] = (dims.channels, wide, 3, 3)
            case conv if "rdb" in name:
                shapes[name] = (growth, wide + (int(conv[-1]) - 1) * growth, 3, 3)
            case _:
                shapes[name] = (wide, wide, 3, 3)
    return shapes
