"""The files that a request names besides its checkpoint: found, and tried on for size; no torch.

What is refused here is refused when the job is submitted, before a weight is read.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from darkroom.core.model import Kind, ModelCard
from darkroom.core.prompt import Role, Wish
from darkroom.core.request import AUTO, BAKED
from darkroom.library.models import Library
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from darkroom.weights.lora import fit, targets_of

KINDS: Mapping[Role, Kind] = MappingProxyType(
    {"lora": Kind.LORA, "hypernetwork": Kind.HYPERNETWORK}
)

Files = Mapping[tuple[Role, str], ModelCard]  # by the names in the prompt


def files_for(library: Library, checkpoint: ModelCard, asked: Iterable[Wish]) -> Files:
    """The files of the networks that prompts ask for.

    UnknownName with the nearest names when one is not here, BadFile with counts and the reason
    when a LoRA does not fit the checkpoint.
    """
    named = dict.fromkeys((wish.role, wish.name) for wish in asked)
    files = {(role, name): library.find_of(KINDS[role], name) for role, name in named}
    loras = {card.sha256: card for (role, _), card in files.items() if role == "lora"}
    if loras:
        targets = targets_of(detect(read_header(Path(checkpoint.path))))
        for card in loras.values():
            fit(read_header(Path(card.path)), targets).check()
    return files


def vae_for(library: Library, checkpoint: ModelCard, name: str) -> ModelCard | None:
    """The file of the VAE that the request's field `vae` means; None for the checkpoint's own."""
    if name == AUTO:
        return library.vae_beside(checkpoint)
    return None if name == BAKED else library.find_of(Kind.VAE, name)
