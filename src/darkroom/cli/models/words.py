"""How models are told to people and to programs; what comes from a file is made printable."""

from collections.abc import Iterable
from typing import Any

import click

from darkroom.core.errors import printable
from darkroom.core.model import Arch, Kind
from darkroom.library.facts import Facts, Found
from darkroom.library.listing import Page

PLURALS = {
    Kind.CHECKPOINT: "checkpoints",
    Kind.VAE: "VAEs",
    Kind.LORA: "LoRAs",
    Kind.EMBEDDING: "embeddings",
    Kind.HYPERNETWORK: "hypernetworks",
    Kind.CONTROLNET: "ControlNets",
    Kind.T2I_ADAPTER: "T2I-Adapters",
    Kind.IP_ADAPTER: "IP-Adapters",
    Kind.MOTION: "motion modules",
    Kind.UPSCALER: "upscalers",
    Kind.DETECTOR: "detectors",
    Kind.RESTORER: "restorers of faces",
    Kind.SEGMENTER: "models for cut-outs",
    Kind.CAPTIONER: "captioners",
    Kind.PREVIEW: "preview decoders",
    Kind.TEXT_ENCODER: "text encoders",
    Kind.UNET: "UNets",
    Kind.UNKNOWN: "others",
}
KIND_CHOICE = click.Choice([kind.value.replace(" ", "-").lower() for kind in Kind])


def kind_of(word: str | None) -> Kind | None:
    """The kind that a flag names."""
    words = {kind.value.replace(" ", "-").lower(): kind for kind in Kind}
    return None if word is None else words[word]


def record(found: Found) -> dict[str, Any]:
    """What a program is told of one model."""
    facts, hashes = found.facts, found.hashes
    told: dict[str, Any] = {"name": found.name, "path": str(found.path), "problem": facts.problem}
    if facts == Facts(problem=facts.problem):
        return told
    names = (
        "kind", "arch", "label", "variant", "prediction", "zero_snr", "native_size", "bytes",
        "precision", "components", "ema", "distilled", "distilled_by", "dialect", "rank",
        "base_model", "title", "author", "licence", "alias", "description", "notes", "negative",
        "weight", "triggers", "tags", "recommended", "preview", "sidecars", "problems",
    )  # fmt: skip
    told |= {name: getattr(facts, name) for name in names}
    return told | {
        "sha256": hashes.sha256,
        "autov2": hashes.autov2,
        "autov3": hashes.autov3,
        "legacy": hashes.legacy,
    }


def show_page(page: Page, *, first: int) -> None:
    """Print a listing under the names of the kinds."""
    width = max((len(printable(item.name)) for item in page.items), default=0)
    kind = None
    for item in page.items:
        if item.kind is not kind:
            click.echo(f"{'' if kind is None else chr(10)}{PLURALS[item.kind]}:")
            kind = item.kind
        click.echo(f"  {printable(item.name):{min(width, 60)}}  {printable(summary(item))}")
    if len(page.items) < page.total:
        click.echo(f"\n{first + 1} to {first + len(page.items)} of {page.total}")


def summary(found: Found) -> str:
    """A model in a line, without its name."""
    facts = found.facts
    if facts.problem:
        return f"cannot be used: {facts.problem}"
    size = f"{facts.native_size} px" if facts.native_size and found.usable else ""
    parts = [
        families_of(facts),
        "" if facts.variant == "base" else str(facts.variant),
        facts.distilled,
        size,
        facts.precision,
        told_size(facts.bytes),
        found.hashes.autov2,
        ", ".join(facts.triggers[:2])[:60],
        f"{len(facts.problems)} remark(s)" if facts.problems else "",
    ]
    return ", ".join(filter(None, parts))


def families_of(facts: Facts) -> str:
    """The family that a model is for, or both where nothing tells which; "" of unknown ones."""
    return "" if facts.families == Arch.OTHER else facts.families


def told_size(size: int) -> str:
    """A size in bytes, for people: two digits and a unit, or more where they are whole."""
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= 0.9995 * bytes_each:
            count = size / bytes_each
            return f"{count:,.1f} {unit}" if count < 9.95 else f"{count:,.0f} {unit}"
    return f"{size} bytes"


def missed(folder: Found) -> str:
    """Words about a folder that was not looked into."""
    return f"{folder.name} was not looked into: {folder.problem}"


def show_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print a table of two columns; rows without a value are left out."""
    for title, value in rows:
        for number, line in enumerate(value.splitlines()):
            click.echo(f"{printable(title) if number == 0 else '':14} {printable(line)}")
