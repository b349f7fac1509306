"""`darkroom models verify`: read files anew and compare them with what is known of them."""

import sys
from collections.abc import Iterable
from typing import Any

import click

from darkroom.cli.boundary import FAILED, Reply
from darkroom.cli.models.asked import with_library
from darkroom.cli.models.words import KIND_CHOICE, kind_of
from darkroom.core.errors import BadFile, printable
from darkroom.library.facts import Found
from darkroom.library.hashes import Hashes
from darkroom.library.listing import Wanted
from darkroom.library.models import Library


@click.command()
@click.argument("names", nargs=-1)
@click.option("--kind", type=KIND_CHOICE, help="Only models of this kind.")
@with_library
def verify(reply: Reply, library: Library, *, names: tuple[str, ...], kind: str | None) -> None:
    """Hash the models NAMES anew, or all of them, and compare.

    The hash of a file is compared with the one it had before, where neither its size nor its time
    has changed, and with those that the files beside it and its own metadata tell, its trainer's
    too. The exit status is 1 if anything is wrong.
    """
    wanted = kind_of(kind)
    if names:
        models: Iterable[Found] = [library.look_up(name, wanted) for name in names]
    else:
        models = library.list(Wanted(kind=wanted))
    rows = [_verified(reply, library, found) for found in models]
    if reply.as_json:
        reply.json(rows)
    if any(row["faults"] for row in rows):
        sys.exit(FAILED)


def _verified(reply: Reply, library: Library, found: Found) -> dict[str, Any]:
    now, faults = Hashes(), [found.problem] if found.problem else []
    try:
        now = library.hash_anew(found).hashes
        faults += compared(found, now)
    except BadFile as error:
        faults = [error.sentence()]
    row = {"name": found.name, "path": str(found.path), "sha256": now.sha256, "faults": faults}
    if not reply.as_json:
        mark = "FAIL" if faults else "ok  "
        click.echo(f"{mark}  {printable(found.name)}  {now.autov2}")
        for fault in faults:
            click.echo(f"        {printable(fault)}")
    return row


def compared(found: Found, now: Hashes) -> list[str]:
    """What is wrong with a file whose hashes are `now`, in sentences."""
    faults = []
    if found.hashes and found.hashes.sha256 != now.sha256:
        faults.append(
            f"its bytes changed since it was hashed ({found.hashes.autov2}), though its size and"
            " time did not: the disk may be failing"
        )
    claimed, trained_as = found.facts.claimed, found.facts.trained_as
    known = any(now.match(start) for start in claimed)
    if claimed and not known:
        faults.append(
            f"its hash is not the one told beside it or in it ({', '.join(claimed)[:80]}):"
            " it is another file, or damaged"
        )
    alone = found.path.is_file()  # of a folder only a part was
    if trained_as and alone and not known and now.autov3 not in trained_as:
        faults.append(
            f"its tensors are not those that its trainer hashed (sshs_model_hash"
            f" {', '.join(trained_as)}): they were changed since (resized, converted), or are"
            " damaged"
        )
    return faults
