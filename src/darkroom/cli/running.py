"""Run a request in this process, as a worker would: same request, same events, same files."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from darkroom.cli.boundary import Reply
from darkroom.core.event import Event
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
) -> None:
    """Run `request` and show how it goes; `like` is the recipe that is made again, if it is one."""

    def start(worker: "Worker", **given: Any) -> Iterator[Event]:
        return worker.run(request, like=like, **given)

    # What can be refused without torch is refused before its seconds are spent.
    from darkroom.library.models import Library

    refuse(request, Library.of(settings, tell=reply.note))
    Place.chosen(chosen(output), settings.outputs_dir, getattr(request, "count", 1))
    work(start, settings, output=output, reply=reply)


def refuse(request: Request, library: "Library") -> None:
    """Raise for a picture or model that is not here, and for a network that does not fit.

    Choices and styles may change which networks they are: those the worker looks at, and what a
    grid or a batch puts into its requests.
    """
    from darkroom.jobs.intake import models_of, pictures_there
    from darkroom.library.tags import files_for

    if isinstance(request, GridRequest | BatchRequest):
        return
    pictures_there(request)
    card = models_of(request, library).card
    if card is None or not isinstance(request, ImageRequest):
        return
    asked, _ = wishes(networks(without_comments(request.prompt))[1])
    if not (request.dynamic_prompts and any(sign in request.prompt for sign in ("{", "__"))):
        files_for(library, card, asked)


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
