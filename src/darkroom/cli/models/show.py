"""`darkroom models show`: all that is known about one model."""

import json
from collections.abc import Iterator, Mapping

import click

from darkroom.cli.boundary import Reply
from darkroom.cli.models.asked import with_library
from darkroom.cli.models.words import (
    KIND_CHOICE,
    families_of,
    kind_of,
    missed,
    record,
    show_rows,
    told_size,
)
from darkroom.core.errors import BadFile, shorten
from darkroom.core.model import Kind
from darkroom.library.examine import recommended
from darkroom.library.facts import Found
from darkroom.library.models import Library
from darkroom.weights.header import read_header

LONGEST = 100  # characters of a value of the metadata; --json has all of it


@click.command()
@click.argument("name")
@click.option("--kind", type=KIND_CHOICE, help="Of the models of that name, the one of this kind.")
@with_library
def show(reply: Reply, library: Library, *, name: str, kind: str | None) -> None:
    """Show what is known about the model NAME (a name, the start of a hash, or a path).

    A model that cannot be used is shown too, with the reason.
    """
    found = library.look_up(name, kind_of(kind))
    metadata = _metadata(found)
    for folder in library.folder_problems():
        reply.note(missed(folder))
    if reply.as_json:
        reply.fields |= record(found) | {"metadata": dict(metadata)}
        return
    show_rows(_rows(found, metadata))
    show_rows((_key(key), _value(value)) for key, value in metadata.items())


def _metadata(found: Found) -> Mapping[str, str]:
    try:
        return read_header(found.path).metadata
    except BadFile:
        return {}


def _rows(found: Found, metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    facts, hashes = found.facts, found.hashes
    yield from (
        ("name", found.name),
        ("cannot be used", facts.problem),
        ("kind", _kind(found)),
        ("title", facts.title),
        ("author", facts.author),
        ("licence", facts.licence),
        ("for", families_of(facts)),
        ("made from", facts.base_model if facts.base_model != facts.families else ""),
        ("network", _network(found, metadata)),
        ("alias", facts.alias),
        ("triggers", ", ".join(facts.triggers)),
        ("negative", facts.negative),
        ("weight", f"{facts.weight:g}" if facts.weight else ""),
        ("size", _size(found)),
        ("parts", _parts(found)),
        ("recommended", _recommended(found, metadata)),
        ("tags", ", ".join(facts.tags)),
        ("notes", facts.notes),
        ("description", shorten(facts.description, 1000)),
        ("sha256", hashes.sha256),
        ("autov2", hashes.autov2),
        ("autov3", hashes.autov3),
        ("legacy hash", hashes.legacy),
        ("path", str(found.path)),
        ("preview", facts.preview),
        ("beside it", ", ".join(facts.sidecars)),
        *(("remark", problem) for problem in facts.problems),
    )


def _kind(found: Found) -> str:
    facts = found.facts
    if facts.kind is not Kind.CHECKPOINT:
        return facts.label
    known = [facts.variant, f"{facts.prediction} prediction", facts.distilled]
    known += ["zero terminal SNR"] if facts.zero_snr else []
    return f"{facts.arch} {facts.kind} ({', '.join(filter(None, known))})"


def _network(found: Found, metadata: Mapping[str, str]) -> str:
    """What a LoRA is made of. Its alpha is a number among its weights; here its metadata tell."""
    facts = found.facts
    if facts.kind is not Kind.LORA:
        return ""
    alpha = metadata.get("ss_network_alpha", "")
    return ", ".join(
        (
            *([f"rank {facts.rank}"] if facts.rank else []),
            *([f"alpha {shorten(alpha, 12)}"] if alpha not in ("", "None") else []),
            *([f"{facts.dialect} names"] if facts.dialect else []),
        )
    )


def _parts(found: Found) -> str:
    facts = found.facts
    if not facts.components:
        return ""
    ema = "with EMA weights" if facts.ema else "no EMA weights (pruned)"
    return f"{', '.join(facts.components)}; {ema}"


def _recommended(found: Found, metadata: Mapping[str, str]) -> str:
    """What suits the model, and who says so. Steps and CFG are taken where a request has none."""
    facts = found.facts
    values = ", ".join(f"{k} {shorten(f'{v}', 20)}" for k, v in facts.recommended.items())
    if not values:
        return ""
    if recommended(metadata):
        return f"{values} (its maker says so)"
    return f"{values} (for {facts.distilled}, which its {facts.distilled_by} tells)"


def _size(found: Found) -> str:
    facts = found.facts
    told = [", ".join(filter(None, (told_size(facts.bytes), facts.precision)))]
    if found.usable and facts.native_size:
        told.append(f"made for {facts.native_size} px")
    return "; ".join(told)


def _key(key: str) -> str:
    return shorten(key.removeprefix("modelspec."), 30)


def _value(value: str) -> str:
    """A value of the metadata on one line; of a table within it, what weighs most."""
    line = " ".join(value.split())
    if line.startswith("{") and len(line) > LONGEST:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            line = f"{len(found)} entries: {', '.join(map(str, list(found)[:8]))}"
    return shorten(line, LONGEST)
