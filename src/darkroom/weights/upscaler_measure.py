"""The dimensions of a network that enlarges pictures, from the shapes in a file alone; no torch.

    measure_upscaler(header) -> Measured | None      None: of a family that we do not build

Families: RRDBNet (ESRGAN, ESRGAN+, BSRGAN, Real-ESRGAN) under the names of every program, and
SRVGGNetCompact. The shapes decide: how many blocks, how wide, how many times larger.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from darkroom.core.errors import BadFile
from darkroom.weights.layouts.entry import Entry, layer, same
from darkroom.weights.layouts.rrdb import DENSE, DIALECTS, WRAPPERS, Dialect, rows_of
from darkroom.weights.table import Header
from darkroom.weights.topology import CompactDims, RrdbDims

MOST_BLOCKS = 99
MOST_DOUBLINGS = 4
MOST_SCALE = 16
FLOATS = ("F16", "BF16", "F32", "F64")
JUNK = ("step", "iter", "current_step")  # numbers that trainers leave beside the weights


@dataclass(frozen=True, slots=True)
class Measured:
    """A network that we build."""

    dims: RrdbDims | CompactDims
    rows: tuple[Entry, ...]  # every tensor, under its name in the file and in our network


def measure_upscaler(header: Header) -> Measured | None:
    """The network in this file; BadFile where tensors are missing or do not fit each other.

    Tensors that no row names make it a relative of the family, which we do not build: None.
    """
    for prefix in WRAPPERS:
        if (small := _compact_dims(header, prefix)) is not None:
            return _checked(header, small, tuple(compact_rows(small, prefix)), prefix=prefix)
        for dialect in DIALECTS:
            if _first_conv(dialect, prefix) in header.tensors:
                dims = _rrdb_dims(header, dialect, prefix)
                rows = tuple(rows_of(dims, dialect, prefix))
                return _checked(header, dims, rows, prefix=prefix)
    return None


def _first_conv(dialect: Dialect, prefix: str, block: int = 0) -> str:
    return f"{prefix}{dialect.conv.format(block=block, dense=DENSE[0], conv=1)}.weight"


def _rrdb_dims(header: Header, dialect: Dialect, prefix: str) -> RrdbDims:
    """Measured from the first block, the two ends, and what is numbered."""

    def there(name: str) -> bool:
        return f"{prefix}{name}.weight" in header.tensors

    places = range(MOST_BLOCKS + 1)
    blocks = _count(_first_conv(dialect, prefix, n) in header.tensors for n in places)
    if "{module}" in dialect.up:  # two more convolutions follow those that enlarge
        doublings = sum(there(f"model.{n}") for n in range(2, 3 * MOST_DOUBLINGS + 5)) - 2
    else:
        doublings = _count(there(dialect.up.format(up=n + 1)) for n in range(MOST_DOUBLINGS + 1))
    end = dialect.last.format(last=3 * doublings + 4)
    features, taken, _, _ = _convolution(header, f"{prefix}{dialect.first}.weight")
    channels, _, _, _ = _convolution(header, f"{prefix}{end}.weight")
    shuffle = math.isqrt(taken // channels)
    if problem := _fault(taken, channels, doublings=doublings, shuffle=shuffle):
        hint = "Upscalers from colour to colour work, and from grey to grey."
        raise BadFile(f"{header.path.name} makes no network: {problem}", hint=hint)
    return RrdbDims(
        channels=channels,
        features=features,
        growth=_convolution(header, _first_conv(dialect, prefix))[0],
        blocks=blocks,
        doublings=doublings,
        shuffle=shuffle,
        beside=there(dialect.beside.format(block=0, dense=DENSE[0])),
    )


def _fault(taken: int, channels: int, *, doublings: int, shuffle: int) -> str:
    """Why these numbers make no network; empty if they do."""
    if channels not in (1, 3) or taken != channels * shuffle**2:
        return f"it takes {taken} channels and gives {channels}"
    if not 0 <= doublings <= MOST_DOUBLINGS or 2**doublings % shuffle:
        return f"it doubles the picture {doublings} times, from 1/{shuffle} of its side"
    return ""


def _compact_dims(header: Header, prefix: str) -> CompactDims | None:
    """Convolutions at the even places of `body`, slopes of the activation at the odd ones."""
    places = _count(f"{prefix}body.{n}.weight" in header.tensors for n in range(200))
    if places < 5 or not places % 2:
        return None
    first, last = (header.shape(f"{prefix}body.{n}.weight") or () for n in (0, places - 1))
    slopes = header.shape(f"{prefix}body.1.weight") or ()
    if len(first) != 4 or len(last) != 4 or len(slopes) != 1 or not first[1]:
        return None
    scale = math.isqrt(last[0] // first[1])
    if last[0] != first[1] * scale**2 or not 1 <= scale <= MOST_SCALE or first[1] not in (1, 3):
        return None
    return CompactDims(channels=first[1], features=first[0], layers=(places - 3) // 2, scale=scale)


def compact_rows(dims: CompactDims, prefix: str = "") -> Iterator[Entry]:
    """The rows of a compact network."""
    wide, ends = dims.features, 2 * dims.layers + 2
    for place in range(ends + 1):
        name = f"body.{place}"
        if place % 2:
            yield same(f"{prefix}{name}.weight", f"{name}.weight", wide)
        else:
            taken = wide if place else dims.channels
            made = dims.channels * dims.scale**2 if place == ends else wide
            yield from layer(prefix + name, name, made, taken, 3, 3)


def _checked(
    header: Header, dims: RrdbDims | CompactDims, rows: tuple[Entry, ...], *, prefix: str
) -> Measured | None:
    """The network, if every tensor that it needs is there in its shape, and no other."""
    for row in rows:
        if (shape := _shape(header, row.source)) != row.stored:
            what = f"{header.path.name}: {row.source} has the shape {shape}, not {row.stored}"
            raise BadFile(what, hint="The file is damaged.")
        if (dtype := header.tensors[row.source].dtype) not in FLOATS:
            raise BadFile(f"{header.path.name}: {row.source} is {dtype}, which is no fraction")
    known = {row.source for row in rows}
    second = tuple(w for w in WRAPPERS if w not in ("", "model.", prefix))  # sets of weights
    strangers = (
        name
        for name in header.tensors.keys() - known
        if not name.startswith(second) and name.rpartition(".")[2] not in JUNK
    )
    return None if any(strangers) else Measured(dims, rows)


def _shape(header: Header, name: str) -> tuple[int, ...]:
    shape = header.shape(name)
    if not shape or 0 in shape:
        raise BadFile(f"{header.path.name} is damaged: it has no {name}", hint="Get it anew.")
    return shape


def _convolution(header: Header, name: str) -> tuple[int, ...]:
    """The shape of a convolution: channels made, channels taken, height, width."""
    shape = _shape(header, name)
    if len(shape) != 4:
        raise BadFile(f"{header.path.name} is damaged: {name} has the shape {shape}")
    return shape


def _count(there: Iterable[bool]) -> int:
    """How many come before the first that is not there."""
    return next((n for n, found in enumerate(there) if not found), MOST_BLOCKS)
