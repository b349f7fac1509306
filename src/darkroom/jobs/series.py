"""Grids and batches: one request after the other, each with its own result and its own recipe.

An item that fails is told, and the others go on; the failed ones are listed at the end. What was
made before, by the same request in the same folder, is not made again (jobs/manifest.py).
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from darkroom.core.batch import Single, request_of, seeded
from darkroom.core.errors import BadFile, BadRequest, Cancelled, StudioError, about, from_event
from darkroom.core.event import Event
from darkroom.core.grid import Cell, cells, layout
from darkroom.core.processing import CaptionRequest
from darkroom.core.request import ImageRequest
from darkroom.core.series import BatchRequest, GridRequest
from darkroom.jobs.manifest import Manifest, Seldom, fingerprint, is_finished
from darkroom.media.files import Place, make_folder, publish
from darkroom.media.lock import hold

Stop = Callable[[], bool]
_LISTED = 10  # failures that are named at the end
_CAPTION = ".txt"
_LOCK = ".series.lock"


class Runner(Protocol):
    """What runs one request: `jobs.worker.Worker`, or a test's stand-in."""

    def run(self, request: Single, *, output: Place, stop: Stop) -> Iterator[Event]:
        """Run `request`; the last event is `done` or `failed`."""

    def place(self, output: Path | Place | None) -> Place:
        """Where `output` and the settings say that results go."""


@dataclass(frozen=True, slots=True)
class Item:
    """One request of a series, made at its turn."""

    key: str
    name: str  # wanted for its result
    words: str  # what messages call it
    make: Callable[[Path], Single]  # given a folder for what it has to unpack
    several: bool = False  # whether it becomes more than one file


def run_series(
    worker: Runner,
    request: GridRequest | BatchRequest,
    *,
    output: Path | Place | None,
    stop: Stop = bool,
) -> Iterator[Event]:
    """Run all that `request` asks for; the last event is `done`.

    StudioError at the end when items failed, Cancelled when the user stopped it. What is finished
    stays, and the same request with the same output goes on where it ended.
    """
    place = _folder(worker, request, output)
    suffix = _CAPTION if isinstance(_base(request), CaptionRequest) else place.suffix
    if isinstance(request, GridRequest):
        cells(request)  # what cannot be is refused before a folder is made
    place.prepare()
    with hold(place.folder / _LOCK) as mine:
        if not mine:
            told = f"another Darkroom is at work in {place.folder}"
            raise BadRequest(told, hint="Wait for it, or choose another folder with -o.")
        try:
            manifest = Manifest.of(place.folder, request, suffix)
            match request:
                case GridRequest():
                    yield from _grid(worker, request, place=place, manifest=manifest, stop=stop)
                case BatchRequest():
                    yield from _batch(worker, request, place=place, manifest=manifest, stop=stop)
        finally:
            (place.folder / _LOCK).unlink(missing_ok=True)


def _grid(
    worker: Runner, request: GridRequest, *, place: Place, manifest: Manifest, stop: Stop
) -> Iterator[Event]:
    from darkroom.jobs.sheets import Sheets

    base = seeded(request.base, manifest.seed)
    grid = request.model_copy(update={"base": base})
    items, cell_of = _cells(grid)
    manifest.plan(((item.key, item.name) for item in items), sheet="grid")
    sheets = Sheets(request, layout(grid), folder=place.folder, name=manifest.sheet)
    run = _Run(worker, items, place, manifest, stop)
    seldom = Seldom()
    try:
        for event in run.events():
            yield event
            if event.kind != "artifact" or run.latest is None:
                continue
            key, path = run.latest
            sheets.add(cell_of[key], path)
            if seldom.due():
                began = time.monotonic()
                sheets.write()
                seldom.took(time.monotonic() - began)
    finally:
        for key, path in run.first_results():
            sheets.add(cell_of[key], path)
        notes = sheets.write()
    yield from (Event("warning", {"text": text}) for text in notes)
    yield Event("sheet", {"path": str(sheets.picture)})
    yield Event("sheet", {"path": str(sheets.page)})
    yield from run.ended()


def _cells(grid: GridRequest) -> tuple[list[Item], dict[str, Cell]]:
    """The items of a grid: of a cell with several pictures one for each, so that each resumes."""
    items: list[Item] = []
    cell_of: dict[str, Cell] = {}
    for cell in cells(grid):
        for number in range(cell.request.count):
            key = cell.key if not number else f"{cell.key}-{number}"
            single = _nth(cell.request, number)
            several = single.loopback is not None
            items.append(Item(key, key, cell.words, partial(_same, single), several))
            cell_of[key] = cell
    return items, cell_of


def _same(request: ImageRequest, _scratch: Path) -> ImageRequest:
    return request


def _nth(request: ImageRequest, number: int) -> ImageRequest:
    """Picture `number` of a request, alone."""
    own: dict[str, int] = {"count": 1}
    name = "variation_seed" if request.variation_strength else "seed"
    if (seed := getattr(request, name)) is not None:
        own[name] = seed + number
    return request.model_copy(update=own)


def _batch(
    worker: Runner, request: BatchRequest, *, place: Place, manifest: Manifest, stop: Stop
) -> Iterator[Event]:
    from darkroom.media.archives import Archives
    from darkroom.media.listing import brought, listed, said_by

    archives = Archives()

    def making(number: int) -> Callable[[Path], Single]:
        def make(scratch: Path) -> Single:
            item = listing.items[number]
            if item.problem:
                raise BadRequest(item.problem)
            parts = {"image": item.picture, "mask": item.mask}  # which may have one name
            paths = {
                name: brought(part, archives, scratch / name)
                for name, part in parts.items()
                if part is not None
            }
            said = said_by(item, request, archives, picture=paths.get("image"))
            return request_of(request, item, paths, said=said, drawn=manifest.seed)

        return make

    try:
        listing = listed(request, archives, but=place.folder)
        items = [
            Item(item.key, item.name, item.told, making(item.number))
            for item in listing.items
            if item.picture is None or not manifest.has(item.picture.path)
        ]
        manifest.plan((item.key, item.name) for item in items)
        yield from (Event("warning", {"text": text}) for text in listing.notes)
        run = _Run(worker, items, place, manifest, stop)
        yield from run.events()
        yield from run.ended()
    finally:
        archives.close()


@dataclass(slots=True)
class _Run:
    """A series on its way."""

    worker: Runner
    items: Sequence[Item]
    place: Place
    manifest: Manifest
    stop: Stop
    latest: tuple[str, Path] | None = None  # the key and the file of the last artifact
    failures: list[str] = field(default_factory=list)
    started: dict[str, object] | None = None  # what the first item told when it started
    made: int = 0
    skipped: int = 0
    said: set[str] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)

    def events(self) -> Iterator[Event]:
        """Run what is missing; the events are those of the items, numbered as one job."""
        left = []
        for number, item in enumerate(self.items):
            files = self._results(item)
            if files is None:
                left.append((number, item))
            else:
                self.manifest.adopt(item.key, files)
        self.skipped = len(self.items) - len(left)
        if self.skipped:
            told = f"{self.skipped} of {len(self.items)} are there already and are not made again"
            yield Event("warning", {"text": told})
        try:
            for number, item in left:
                if self.stop():
                    raise self._cancelled()
                yield from self._item(number, item)
        finally:
            self.manifest.write()

    def ended(self) -> Iterator[Event]:
        """The last event; StudioError when items failed."""
        if not self.failures:
            seconds = time.monotonic() - self.began
            yield Event("done", {"images": self.made, "seconds": seconds})
            return
        named = "; ".join(self.failures[:_LISTED])
        more = len(self.failures) - _LISTED
        raise StudioError(
            f"{len(self.failures)} of {len(self.items)} could not be made: {named}"
            + (f"; and {more} more" if more > 0 else ""),
            hint="The same command tries them again and leaves the others as they are.",
        )

    def first_results(self) -> Iterator[tuple[str, Path]]:
        """The result of every item that is there; of a loopback its last round."""
        for item in self.items:
            if files := self._results(item):
                yield item.key, files[-1]

    def _results(self, item: Item) -> tuple[Path, ...] | None:
        return self.manifest.results(item.key, several=item.several)

    def _item(self, number: int, item: Item) -> Iterator[Event]:
        try:
            yield from self._carried_out(number, item)
        except Cancelled:
            raise self._cancelled() from None
        except StudioError as error:
            self.failures.append(item.words)
            self.manifest.failed(item.key, error.sentence())
            yield Event("warning", {"text": about(item.words, error.sentence())})

    def _carried_out(self, number: int, item: Item) -> Iterator[Event]:
        """Run one item; whatever its last event tells of as an error is raised."""
        entry = self.manifest.entry(item.key)
        where = self.place.folder / entry.name
        with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
            request = item.make(Path(scratch))
            place = replace(self.place, folder=where.parent, stem=where.name)
            make_folder(place.folder)
            files: list[tuple[Path, str]] = []
            for event in self.worker.run(request, output=place, stop=self.stop):
                match event.kind:
                    case "failed":
                        raise from_event(event.data)
                    case "done":
                        pass
                    case "artifact":
                        path = Path(event.data["path"])
                        files.append((path, event.data["sha256"]))
                        self.latest = item.key, path
                        yield self._renumbered(number, event)
                    case "caption":
                        files.append(self._written(place, str(event.data["text"])))
                        more = {"of": item.words, "path": str(files[-1][0])}
                        yield self._renumbered(number, replace(event, data=event.data | more))
                    case _:
                        yield from self._forwarded(number, event)
        self.made += 1
        told = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
        self.manifest.made(item.key, files, told)

    def _written(self, place: Place, text: str) -> tuple[Path, str]:
        """Put a caption into a file of the item's name."""
        data = f"{text}\n".encode()
        place = replace(place, suffix=_CAPTION)
        return publish(place.names(0, single=True), data), hashlib.sha256(data).hexdigest()

    def _forwarded(self, number: int, event: Event) -> Iterator[Event]:
        match event.kind:
            case "started":
                if self.started is None:
                    self.started = event.data
                    yield replace(event, data=event.data | {"images": len(self.items)})
            case "warning":
                if event.data["text"] not in self.said:  # the same of each of them, once
                    self.said.add(event.data["text"])
                    yield event
            case _:
                yield self._renumbered(number, event)

    def _renumbered(self, number: int, event: Event) -> Event:
        """`image` and `done` as they are in the whole series."""
        data = event.data | {"image": number}
        if event.kind == "step":
            steps = int(str((self.started or {}).get("steps") or 0)) or event.data["steps"]
            share = min(event.data["done"] / max(event.data["steps"], 1), 1)
            data["done"] = round((number + share) * steps)
        return replace(event, data=data)

    def _cancelled(self) -> Cancelled:
        done = self.skipped + self.made
        return Cancelled(
            f"stopped: {done} of {len(self.items)} are finished",
            hint="The same command with the same -o makes the others.",
        )


def _base(request: GridRequest | BatchRequest) -> Single:
    return request.base


def _folder(
    worker: Runner, request: GridRequest | BatchRequest, output: Path | Place | None
) -> Place:
    """The folder of the results. Without -o that of today's unfinished series of this request."""
    place = worker.place(output)
    if place.stem is not None:
        raise BadRequest(
            f"a {request.kind} makes many files, and -o names one", hint="Name a folder."
        )
    if output is not None:
        return place
    name = f"{request.kind}-{fingerprint(request)[:8]}"
    tries = (place.folder / (f"{name}-{n}" if n else name) for n in range(1_000_000))
    return replace(place, folder=next(path for path in tries if not _is_over(path)))


def _is_over(folder: Path) -> bool:
    """Whether nothing is left to do there: all is made, or its list cannot be read."""
    try:
        return is_finished(folder)
    except BadFile:
        return True
