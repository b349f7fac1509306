"""From a grid to its cells: one request for each picture, in the order that switches models least.

for cell in cells(grid):
    cell.key, cell.labels, cell.request      "2-0-0", ("steps: 30", "", ""), ImageRequest(…)
"""

import copy
from dataclasses import dataclass
from itertools import product
from math import prod

from darkroom.core.axes import Data, Point, Points, read_axis
from darkroom.core.errors import BadRequest, about, shorten
from darkroom.core.fields import MAX_SEED
from darkroom.core.matrix import matrix_axes
from darkroom.core.request import ImageRequest
from darkroom.core.series import GridRequest

MOST = 10_000  # pictures of one grid

Place = tuple[int, int, int]  # x, y, z, from 0
_MISSING = {
    "init.image": "An axis of init needs a picture to begin with: --init FILE.",
    "refiner.model": "An axis of the refiner needs a checkpoint: --refiner NAME.",
    "restore.model": "An axis of restore needs a model: --restore-faces NAME.",
}
_NO_AXIS = Points("", (Point("", lambda data: None),))


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of a grid."""

    place: Place
    request: ImageRequest
    labels: tuple[str, str, str]  # of x, y, z; empty where there is no axis

    @property
    def key(self) -> str:
        """What the cell is called in the manifest, and its picture on the disk."""
        return "-".join(map(str, self.place))

    @property
    def words(self) -> str:
        """What is special about it."""
        return ", ".join(filter(None, self.labels)) or self.key


@dataclass(frozen=True, slots=True)
class Layout:
    """How many cells a grid has along each axis, and what is written there."""

    x: tuple[str, ...]
    y: tuple[str, ...]
    z: tuple[str, ...]

    @property
    def cells(self) -> int:
        """How many places it has."""
        return len(self.x) * len(self.y) * len(self.z)


def layout(grid: GridRequest) -> Layout:
    """The labels of a grid; BadRequest as `cells`."""
    x, y, z = (tuple(point.label for point in axis.points) for axis in _axes(grid))
    return Layout(x, y, z)


def pictures(grid: GridRequest) -> int:
    """How many pictures it makes (a loopback's rounds count as one); BadRequest as `cells`."""
    return layout(grid).cells * grid.base.count


def cells(grid: GridRequest) -> tuple[Cell, ...]:
    """All cells; the axis whose values take longest to change is the outermost.

    BadRequest when an axis or a value of it cannot be, or the pictures were too many.
    """
    axes = _axes(grid)
    order = sorted((2, 1, 0), key=lambda number: -axes[number].cost)
    data = grid.base.model_dump(exclude_unset=True)
    found = []
    for chosen in product(*(range(len(axes[number].points)) for number in order)):
        at = dict(zip(order, chosen, strict=True))
        found.append(_cell(grid, axes, (at[0], at[1], at[2]), base=data))
    return tuple(found)


def _cell(grid: GridRequest, axes: tuple[Points, ...], place: Place, *, base: Data) -> Cell:
    data = copy.deepcopy(base)
    x, y, z = (axis.points[at] for axis, at in zip(axes, place, strict=True))
    labels = (x.label, y.label, z.label)
    try:
        for point in (x, y, z):
            point.put(data)
        request = ImageRequest.parse(data)
    except BadRequest as error:
        where = [label for label in labels if label.rpartition(": ")[2] not in str(error)]
        told = about(shorten(", ".join(filter(None, where)), 100), str(error))
        missing = next((hint for name, hint in _MISSING.items() if f"{name}: is" in told), "")
        raise BadRequest(told, hint=error.hint or missing) from None
    if request.seed is not None:
        seed = (request.seed + _offset(grid, axes, place)) % (MAX_SEED + 1)
        request = request.model_copy(update={"seed": seed})
    return Cell(place, request, labels)


def _offset(grid: GridRequest, axes: tuple[Points, ...], place: Place) -> int:
    """What is added to the seed there: enough that no two pictures share one."""
    found, stride = 0, grid.base.count
    for name, axis, at in zip("xyz", axes, place, strict=True):
        if grid.random_seeds or name in grid.vary_seeds:
            found += at * stride
            stride *= len(axis.points)
    return found


def _axes(grid: GridRequest) -> tuple[Points, Points, Points]:
    if grid.matrix and (grid.x is not None or grid.y is not None):
        raise BadRequest(
            "a prompt matrix takes the axes x and y itself", hint="Use the axis z beside it."
        )
    x, y, z = (
        _NO_AXIS if axis is None else read_axis(axis, grid.base) or _NO_AXIS
        for axis in (grid.x, grid.y, grid.z)
    )
    if grid.matrix:
        x, y = matrix_axes(grid)
    count = grid.base.count * prod(len(axis.points) for axis in (x, y, z))
    if count > MOST:
        told = f"this grid would make {count:,} pictures; {MOST:,} is the most"
        raise BadRequest(told, hint="Leave out some values.")
    return x, y, z
