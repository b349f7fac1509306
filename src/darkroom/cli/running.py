"""Run a request in this process, as a worker would: same request, same events, same files."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from darkroom.cli.boundary import Reply
from darkroom.core.errors import BadRequest
from darkroom.core.event import Event
from darkroom.core.preview import method_of
from darkroom.core.prompt import networks, wishes, without_comments
from darkroom.core.recipe import Recipe
from darkroom.core.request import ImageRequest
from darkroom.core.series import BatchRequest, GridRequest, Request
from darkroom.core.settings import Settings, expanded
from darkroom.media.files import Place

if TYPE_CHECKING:
    from darkroom.jobs.worker import Worker
    from darkroom.library.models import Library


Start = Callable[..., Iterator[Event]]  # (worker, output=…, stop=…)


def run(
    request: Request,
    settings: Settings,
    *,
    output: str | None,
    reply: Reply,
    like: Recipe | None = None,
    fresh: bool = False,
) -> None:
    """Run `request` and show how it goes; `like` is the recipe that is made again, if it is one.

    `fresh` begins a grid or a batch anew in a folder that holds another.
    """

    def start(worker: "Worker", **given: Any) -> Iterator[Event]:
        return worker.run(request, like=like, **given)

    # What can be refused without torch is refused before its seconds are spent.
    from darkroom.library.models import Library

    series = isinstance(request, GridRequest | BatchRequest)
    if isinstance(request, GridRequest | BatchRequest):
        reply.note(counted(request))
    library = Library.of(settings, tell=reply.note)
    refuse(request, library)
    refuse_previews(request, settings, library)
    Place.chosen(chosen(output), settings.outputs_dir, getattr(request, "count", 1))
    if fresh and not series:
        reply.note("--fresh has no effect: this is no grid and no batch")
    elif fresh:
        _begin_anew(output)
    work(start, settings, output=output, reply=reply)


def refuse(request: Request, library: "Library") -> None:
    """Raise for a picture or model that is not here, and for a network that does not fit.

    Choices and styles may change which networks they are: those the worker looks at, and what the
    items of a batch say.
    """
    from darkroom.jobs.intake import models_of, pictures_there
    from darkroom.library.tags import files_for

    if isinstance(request, GridRequest):
        for each in _unlike(request):
            refuse(each, library)
        return
    if isinstance(request, BatchRequest):
        refuse(request.base, library)
        return
    pictures_there(request)
    card = models_of(request, library).card
    if card is None or not isinstance(request, ImageRequest):
        return
    asked, _ = wishes(networks(without_comments(request.prompt))[1])
    if not (request.dynamic_prompts and any(sign in request.prompt for sign in ("{", "__"))):
        files_for(library, card, asked)


def refuse_previews(request: Request, settings: Settings, library: "Library") -> None:
    """Raise where the tiny decoder that is asked for is not here, or not for the checkpoint."""
    from darkroom.library.named import checkpoint_of
    from darkroom.library.previews import previewing_of

    if not settings.preview_seconds or method_of(settings.preview) not in ("tiny", None):
        return
    asked, series = previewing_of(library, settings.preview), GridRequest | BatchRequest
    if not isinstance(request, series) and (name := checkpoint_of(request)) is not None:
        asked.check(library.find(name))


def counted(request: GridRequest | BatchRequest) -> str:
    """How much there is to do, in words; BadRequest where that cannot be found out."""
    if isinstance(request, GridRequest):
        from darkroom.core.grid import pictures

        number = pictures(request)
        return f"this makes {number:,} picture{'s' if number > 1 else ''}"
    from darkroom.media.archives import Archives
    from darkroom.media.listing import listed

    archives = Archives()
    try:
        number = len(listed(request, archives).items)
    finally:
        archives.close()
    if isinstance(request.base, ImageRequest):
        number *= request.base.count
    return f"{number:,} picture{'' if number == 1 else 's'} to do"


def _unlike(grid: GridRequest) -> Iterable[ImageRequest]:
    """The requests of a grid's cells, but one alone of those that name the same files."""
    from darkroom.core.grid import cells
    from darkroom.core.places import models, sources

    found: dict[tuple[object, ...], ImageRequest] = {}
    for asked in (cell.request for cell in cells(grid)):
        files = (asked.model, asked.vae, asked.prompt, *models(asked), *sources(asked))
        found.setdefault(files, asked)
    return found.values()


def _begin_anew(output: str | None) -> None:
    """Put aside the list of what is in the folder."""
    from darkroom.jobs.manifest import forget

    folder = chosen(output)
    if folder is None:
        raise BadRequest("--fresh needs a folder", hint="Name it with -o.")
    forget(folder)


def work(start: Start, settings: Settings, *, output: str | None, reply: Reply) -> None:
    """Show the events of what `start` lets a new worker do, until it ends or is stopped."""
    from darkroom.cli.progress import follow

    place = chosen(output)
    from darkroom.jobs.worker import Worker  # imports torch: seconds

    with stop_flag() as stop:
        follow(start(Worker(settings), output=place, stop=stop.is_set), reply)


def chosen(output: str | None) -> Path | None:
    """What `-o` says; a name that ends in a slash is a folder, even "v1.5/", and is made."""
    if not output:
        return None
    path = expanded(Path(output))
    if output.endswith(("/", os.sep)):
        from darkroom.media.files import make_folder

        make_folder(path)
    return path


@contextmanager
def stop_flag() -> Iterator[Flag]:
    """A flag that Ctrl-C and SIGTERM set, so that the job stops where nothing gets lost.

    A second Ctrl-C interrupts at once.
    """
    flag = Flag()

    def ask(number: int, _frame: object) -> None:
        if flag.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        flag.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield flag
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
