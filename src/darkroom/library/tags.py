"""The files that a request names besides its checkpoint: found, and tried on for size; no torch.

What is refused here is refused when the job is submitted, before a weight is read.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from darkroom.core.model import Kind, ModelCard
from darkroom.core.prompt import Role, Wish
from darkroom.core.request import AUTO, BAKED
from darkroom.library.models import Library
from darkroom.weights.detect import detect
from darkroom.weights.header import Header, read_header
from darkroom.weights.hypernetwork_facts import check_widths, widths_of
from darkroom.weights.lora import Targets, fit, targets_of

KINDS: Mapping[Role, Kind] = MappingProxyType(
    {"lora": Kind.LORA, "hypernetwork": Kind.HYPERNETWORK}
)

_HASH = re.compile(r"[0-9a-fA-F]{8,64}")  # which file that means is not worth finding out
MOST_NAMED = 4  # of the files that a name could mean

Files = Mapping[tuple[Role, str], ModelCard]  # by the names in the prompt


def files_for(library: Library, checkpoint: ModelCard, asked: Iterable[Wish]) -> Files:
    """The files of the networks that prompts ask for.

    UnknownName with the nearest names when one is not here, BadFile with counts and the reason
    when one does not fit the checkpoint.
    """
    named = dict.fromkeys((wish.role, wish.name) for wish in asked if not wish.idle)
    files = {(role, name): library.find_of(KINDS[role], name) for role, name in named}
    distinct = {(role, card.sha256): card for (role, _), card in files.items()}
    if distinct:
        targets = targets_of(detect(read_header(Path(checkpoint.path))))
        for (role, _), card in distinct.items():
            CHECKS[role](read_header(Path(card.path)), targets)
    return files


def remarks(library: Library, asked: Iterable[Wish], files: Files) -> Iterator[str]:
    """Notes on the names of networks: which of several files is taken, what is idle and missing."""
    for (role, name), card in files.items():
        yield from unclear(library, KINDS[role], name, card=card)
    for role, name in dict.fromkeys((wish.role, wish.name) for wish in asked if wish.idle):
        here = (role, name) in files or _HASH.fullmatch(name) or library.choices(KINDS[role], name)
        if not here:
            yield f"the {role} {name!r} is not here; so written it has no effect anyway"


def unclear(library: Library, kind: Kind, name: str, *, card: ModelCard | None) -> Iterator[str]:
    """A note where `name` means another file as well as it means that of the card."""
    names = [] if card is None else library.choices(kind, name)
    if len(names) > 1 and card is not None and card.name == names[0]:
        others = " and ".join(map(repr, names[1:MOST_NAMED]))
        yield f"{name!r} is taken for {names[0]!r}, and could be {others}: write the name in full"


def _check_lora(header: Header, targets: Targets) -> None:
    fit(header, targets).check()


def _check_hypernetwork(header: Header, targets: Targets) -> None:
    check_widths(header.path.stem, widths_of(header), targets.contexts)


CHECKS: Mapping[Role, Callable[[Header, Targets], None]] = MappingProxyType(
    {"lora": _check_lora, "hypernetwork": _check_hypernetwork}
)


def vae_for(library: Library, checkpoint: ModelCard, name: str) -> ModelCard | None:
    """The file of the VAE that the request's field `vae` means; None for the checkpoint's own."""
    if name == AUTO:
        return library.vae_beside(checkpoint)
    return None if name == BAKED else library.find_of(Kind.VAE, name)
