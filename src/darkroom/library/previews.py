"""The tiny decoders on this machine that may show previews; no torch.

    previewing_of(library, settings.preview) -> Previewing

The one that comes with the program goes first, then the files in the folders that A1111, Forge,
ComfyUI and SD.Next keep theirs in. TAESD goes before A1111's VAE-approx, which is coarser.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path, PurePath

from darkroom.core.errors import BadFile, BadRequest
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.preview import Previewing, method_of
from darkroom.library.models import Library
from darkroom.library.survey import Item
from darkroom.weights.header import read_header
from darkroom.weights.preview import detect_preview
from darkroom.weights.topology import TinyDims

FOLDERS = frozenset({"vae-approx", "vae_approx", "taesd"})  # in small letters
BEGINNING = "taesd"  # of the file, wherever it is
SHIPPED = "starter"


def previewing_of(library: Library, wanted: str) -> Previewing:
    """What the setting `preview` asks for: a method with its decoders, or one decoder by its name.

    UnknownName or BadFile where there is no such decoder.
    """
    method = method_of(wanted)
    shipped = shipped_decoder()
    if method in ("auto", "tiny"):
        found = (*([shipped] if shipped else ()), *_found(library))
        own = shipped.sha256 if shipped else ""
        return Previewing(method=method, decoders=found, shipped=own)
    if method is not None:
        return Previewing(method=method)
    if wanted.casefold() == SHIPPED:
        if shipped is None:
            hint = "--preview auto shows the colours of the latent."
            raise BadRequest("no preview decoder comes with this version", hint=hint)
        return Previewing(method="tiny", decoders=(shipped,), named=True)
    card = library.find_of(Kind.PREVIEW, wanted)
    detect_preview(read_header(Path(card.path)))  # says why it cannot be used
    return Previewing(method="tiny", decoders=(card,), named=True)


def shipped_path() -> Path:
    """Where the decoder lies that comes with the program, if one does."""
    return Path(str(resources.files("darkroom") / "starter" / "preview.safetensors"))


def shipped_decoder() -> ModelCard | None:
    """The decoder of the starter's latents; None where it is not there, or damaged."""
    path = shipped_path()
    if not path.is_file():
        return None
    with suppress(BadFile):
        header = read_header(path)
        detect_preview(header)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ModelCard(
            sha256=digest,
            path=str(path),
            name=SHIPPED,
            kind=Kind.PREVIEW,
            arch=Arch.OTHER,
            bytes=header.size,
            metadata=header.metadata,
        )
    return None


def _found(library: Library) -> tuple[ModelCard, ...]:
    """The decoders in the usual folders that work, the finer first."""
    known = [(item, library.catalogue.facts(item)) for item in _likely(library)]
    fit = [i for i, facts in known if facts.kind is Kind.PREVIEW and not facts.problem]
    cards = [library.card_at(Kind.PREVIEW, Path(item.path)) for item in fit]
    return tuple(sorted(cards, key=_coarse))


def _likely(library: Library) -> Iterator[Item]:
    """Files that may be decoders, by their names alone: a library may hold ten thousand others."""
    for item in library.catalogue.survey().all():
        parts = PurePath(item.path).parts
        inside = FOLDERS.intersection(part.casefold() for part in parts[-3:-1])
        if inside or item.stem.casefold().startswith(BEGINNING):
            yield item


def _coarse(card: ModelCard) -> bool:
    return not isinstance(detect_preview(read_header(Path(card.path))).dims, TinyDims)
