"""`darkroom models list`: the models here, by kind."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.models.asked import View, list_flags, with_library, with_view
from darkroom.cli.models.words import missed, record, show_page
from darkroom.core.errors import printable, shorten
from darkroom.library.listing import Wanted
from darkroom.library.models import Library
from darkroom.library.offered import rows

PATIENCE_S = 1.0  # before progress is told


@click.command("list")
@list_flags
@with_library
@with_view
def list_models(
    reply: Reply, library: Library, *, view: View, problems: bool, hashed: bool
) -> None:
    """List the models on this machine.

    What a file is, is read from its content. A file that is new is looked at once.
    """
    wanted = replace(view.wanted, problems=problems)
    learn(library, reply)
    if hashed:
        hash_all(library, wanted, reply)
    show(reply, library, replace(view, wanted=wanted))


def show(reply: Reply, library: Library, view: View) -> None:
    """Print a page of the models that are wanted."""
    page = library.page(view.wanted, first=view.first, most=view.most)
    besides = list(_besides(view.wanted))
    if reply.as_json:
        reply.json([record(item) for item in page.items])
    elif page.items:
        show_page(page, first=view.first)
    elif page.total:
        pages = math.ceil(page.total / (view.most or page.total))
        click.echo(f"There is no such page: {page.total:,} are on {pages} page(s) of {view.most}.")
    elif not besides:
        click.echo("No model is like that.")
    if besides and not reply.as_json:
        click.echo("Without a file:")
        for name, origin in besides:
            click.echo(f"  {name:24}  {origin}")
    for folder in page.missed:
        if folder not in page.items:
            click.echo(f"Note: {printable(missed(folder))}", err=True)  # JSON is a list: no room


def _besides(wanted: Wanted) -> Iterator[tuple[str, str]]:
    """What of the kind needs no file, where the kind alone was asked for."""
    if wanted.kind is not None and not (wanted.words or wanted.problems or wanted.arch):
        yield from rows(wanted.kind)


def learn(library: Library, reply: Reply) -> None:
    """Learn about new files, and say how far it is when it takes a while."""
    next_word = time.monotonic() + PATIENCE_S
    for done, total in library.learn():
        if time.monotonic() > next_word:
            next_word += PATIENCE_S
            _progress(reply, f"looking at new files: {done:,} of {total:,}")
    _progress(reply, "")


def hash_all(library: Library, wanted: Wanted, reply: Reply) -> None:
    """Hash the files that never were."""
    for found, left in library.hash_all(wanted):
        _progress(reply, f"hashing, {left:,} to go: {shorten(found.name, 40)}")
    _progress(reply, "")


def _progress(reply: Reply, text: str) -> None:
    """One line that is written over, on a terminal only."""
    if not reply.as_json and sys.stderr is not None and sys.stderr.isatty():
        click.echo(f"\r\x1b[K{printable(text)}", err=True, nl=False)
