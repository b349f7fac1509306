"""`darkroom models search`: models by words about them."""

from dataclasses import replace

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.models.asked import View, with_library, with_view
from darkroom.cli.models.listing import learn, show
from darkroom.library.models import Library


@click.command()
@click.argument("words", nargs=-1, required=True)
@with_library
@with_view
def search(reply: Reply, library: Library, *, words: tuple[str, ...], view: View) -> None:
    """Find the models about which all WORDS are said.

    They are looked for in names, titles, trigger words, tags, descriptions and notes, also within
    words.
    """
    learn(library, reply)
    terms = tuple(part for word in words for part in word.split())
    show(reply, library, replace(view, wanted=replace(view.wanted, words=terms)))
