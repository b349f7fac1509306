"""Run a request in this process, as a worker would: same request, same events, same files."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from typing import Any

from darkroom.core.request import Request
from darkroom.core.settings import Configured


def run(
    request: Request, settings: Configured, *, output: Path | None = None, quiet: bool = False
) -> list[dict[str, Any]]:
    """Run `request` and show how it goes; the data of the pictures that were saved."""
    from darkroom.cli.progress import follow
    from darkroom.jobs.worker import Worker  # imports torch: seconds

    with stop_flag() as stop:
        events = Worker(settings.values).run(request, output=output, stop=stop.is_set)
        return follow(events, quiet=quiet)


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
