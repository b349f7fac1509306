"""The picture and the page of a grid, drawn while its cells come in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.core.errors import BadFile
from darkroom.core.grid import Cell, Layout, Place
from darkroom.core.places import PICTURES
from darkroom.core.series import GridRequest
from darkroom.media.files import write_whole
from darkroom.media.gridpage import MOST_EMBEDDED, Shown, grid_page, shown
from darkroom.media.metadata import infotext, read_recipe
from darkroom.media.sheet import Labels, draw, png

_MOST_SETTINGS = 2_000  # pictures; of more, the page shows only what was varied


class Sheets:
    """What stands beside the cells of `grid` in `folder`: `<name>.png` and `<name>.html`.

    Of a cell with several pictures the first is shown.
    """

    def __init__(self, grid: GridRequest, layout: Layout, *, folder: Path, name: str) -> None:
        self._grid = grid
        self._labels = Labels(x=layout.x, y=layout.y, z=layout.z, legend=grid.legend)
        self._folder = folder
        self._small = layout.cells <= MOST_EMBEDDED
        self._settings = layout.cells <= _MOST_SETTINGS
        self._cells: dict[Place, tuple[Path, str]] = {}
        self._shown: dict[Path, Shown] = {}
        self.picture = folder / f"{name}.png"
        self.page = folder / f"{name}.html"

    def add(self, cell: Cell, path: Path) -> None:
        """Show the picture at `path` in its place."""
        self._cells.setdefault(cell.place, (path, cell.words))

    def write(self) -> tuple[str, ...]:
        """Draw both anew, over what was there; notes on what could not be shown as it is."""
        paths = {place: path for place, (path, _) in self._cells.items()}
        drawn = draw(self._labels, paths, margin=self._grid.margin)
        request = _told(self._grid)
        write_whole(
            self.picture, png(drawn, parameters=self._parameters(), grid=request), lasting=True
        )
        page = grid_page(
            _title(self._grid),
            self._labels,
            {place: self._showing(*told) for place, told in self._cells.items()},
            folder=self._folder,
            made=json.dumps(request, indent=2, ensure_ascii=False),
            sheet=self.picture,
        )
        write_whole(self.page, page.encode(), lasting=True)
        return drawn.notes

    def _showing(self, path: Path, words: str) -> Shown:
        if path not in self._shown:
            settings = _settings(path) if self._settings else ""
            self._shown[path] = shown(path, words=words, settings=settings, inside=self._small)
        return self._shown[path]

    def _parameters(self) -> str:
        """The settings of the first picture, with the axes as A1111 writes them down."""
        first = self._cells.get((0, 0, 0)) or next(iter(self._cells.values()), None)
        settings = _settings(first[0]) if first else ""
        if not settings:
            return ""
        axes = [("X", self._grid.x), ("Y", self._grid.y), ("Z", self._grid.z)]
        told = [
            f"{name} Type: {axis.field}, {name} Values: {_quoted(axis.values)}"
            for name, axis in axes
            if axis is not None
        ]
        return ", ".join((settings, "Script: X/Y/Z plot", *told)) if told else settings


def _quoted(values: str) -> str:
    return json.dumps(values, ensure_ascii=False)


def _settings(path: Path) -> str:
    try:
        return infotext.write(read_recipe(path))
    except BadFile:
        return ""


def _title(grid: GridRequest) -> str:
    fields = [axis.field for axis in (grid.x, grid.y, grid.z) if axis is not None]
    varied = " × ".join(fields) or ("prompt matrix" if grid.matrix else "grid")
    words = " ".join(grid.base.prompt.split())[:100]
    return f"{varied}: {words}" if words else varied


def _told(grid: GridRequest) -> Mapping[str, Any]:
    """The request without the folders of this machine, which are nobody's business."""
    data = grid.model_dump(mode="json", exclude_defaults=True)
    base = data.get("base", {})
    for path in PICTURES["image"]:
        _cut(base, path)
    for name in ("model", "vae"):
        if name in base:
            base[name] = _last(base[name])
    return data


def _cut(data: Any, path: tuple[str, ...]) -> None:
    """Of the path of a file its name alone."""
    for place in data if isinstance(data, list) else [data]:
        if isinstance(place, dict) and path[0] in place:
            if len(path) == 1:
                place[path[0]] = _last(place[path[0]])
            else:
                _cut(place[path[0]], path[1 + (path[1] == "*") :])


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
