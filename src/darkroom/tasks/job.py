"""What a task is given besides its request: where results go, and whether to stop."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.core.errors import BadRequest, Cancelled
from darkroom.core.event import Event
from darkroom.core.model import Kind, ModelCard
from darkroom.core.preview import Previewing
from darkroom.engine.shelf import Shelf
from darkroom.media.files import Place
from darkroom.media.image import Saving
from darkroom.tasks.networks import Files
from darkroom.tasks.wording import Wording

PREVIEW_SHARE = 0.03  # of the running time, at most


@dataclass(slots=True)
class PreviewClock:
    """Decides when a preview is due: not too often, and never for more than 3 % of the time."""

    least_s: float
    _started: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)
    _spent: float = 0.0
    _rate: float = 0.0  # seconds by size, of the latest preview or trial

    def due(self, size: int = 1) -> bool:
        """Whether a preview of `size` should be made now, at the cost of the latest."""
        now = time.monotonic()
        rested = self.least_s > 0 and now - self._last >= self.least_s
        return rested and self._spent + self.cost(size) <= PREVIEW_SHARE * (now - self._started)

    def cost(self, size: int) -> float:
        """The seconds that a preview of `size` will take, as far as that is known."""
        return self._rate * size

    def made(self, seconds: float, size: int = 1) -> None:
        """Count a preview of `size` that took `seconds`."""
        self._last = time.monotonic()
        self.spend(seconds, size)

    def spend(self, seconds: float, size: int = 0) -> None:
        """Count what was spent otherwise; a trial of `size` tells what a preview will cost."""
        self._spent += seconds
        if size:
            self._rate = seconds / size


@dataclass(frozen=True, slots=True)
class Output:
    """Where pictures go, and as what."""

    place: Place
    saving: Saving


def drained(notes: list[str]) -> Iterator[Event]:
    """The notes for the user as warnings; none is left."""
    while notes:
        yield Event("warning", {"text": notes.pop(0)})


def _no_pictures(source: str) -> Path:
    raise BadRequest(f"the picture {source} is not here")


def _not_kept(_path: str) -> str:
    raise BadRequest("there is no place for pictures made on the way")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a request."""

    id: str
    output: Output
    unfinished: Path  # folder of this job for latents that are not pictures yet
    previews: Path | None  # file that shows the picture as it comes
    clock: PreviewClock
    previewing: Previewing = field(default_factory=Previewing)  # how they are made
    shelf: Shelf  # embeddings that prompts may name
    wording: Wording = field(default_factory=Wording)  # styles and wildcards
    files: Files = field(default_factory=dict)  # of the networks that its prompts name
    cards: Mapping[tuple[Kind, str], ModelCard] = field(default_factory=dict)
    """Every other model that the request names, by kind and name."""
    pictures: Callable[[str], Path] = _no_pictures  # from "sha256:…" to the file
    keep: Callable[[str], str] = _not_kept  # the file of a picture made on the way: its "sha256:…"
    notes: tuple[str, ...] = ()  # on the names in the request, said at the start
    stop: Callable[[], bool] = bool  # whether the user wants to stop; bool() is False

    def check(self) -> None:
        """Raise Cancelled when the user wants to stop."""
        if self.stop():
            raise Cancelled("stopped")
