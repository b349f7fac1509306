"""What is done to a request before a device is needed: pictures kept, models found; no torch.

    found = models_of(request, library)
    request = settled(kept(request, inputs.keep), found, size_of)

Whatever can be refused is refused here, so that the command line does it before torch's seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from darkroom.core.blocks import Init, Mask
from darkroom.core.errors import BadRequest
from darkroom.core.fields import EACH, Parsed
from darkroom.core.model import Kind, ModelCard
from darkroom.core.places import is_stored, replaced, sources
from darkroom.core.processing import UpscaleRequest
from darkroom.core.recipe import Cards, by_name, resolve, with_names
from darkroom.core.request import ImageRequest, ResolvedRequest
from darkroom.core.settings import expanded
from darkroom.library.detectors import check_installed
from darkroom.library.models import Library
from darkroom.library.named import checkpoint_of, named, remarks_on
from darkroom.library.tags import unclear, vae_for

R = TypeVar("R", bound=Parsed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """The files behind a request."""

    card: ModelCard | None  # the checkpoint that runs first; None where none does
    vae: ModelCard | None  # None: the checkpoint's own
    cards: Cards = field(default_factory=dict)  # of all other models, by the request's names
    notes: tuple[str, ...] = ()


def models_of(request: Parsed, library: Library) -> Intake:
    """The models that `request` names; UnknownName or BadFile where one cannot be used.

    BadRequest, with the command to install it, where one is of a package that is not here.
    """
    check_installed(request)
    name = checkpoint_of(request)
    card = None if name is None else library.find(name)
    vae, notes = None, list[str]()
    if isinstance(request, ImageRequest) and card is not None:
        vae = vae_for(library, card, request.vae)
        notes += unclear(library, Kind.VAE, request.vae, card=vae)
    if name is not None:
        notes += unclear(library, Kind.CHECKPOINT, name, card=card)
    cards = named(library, request)
    if isinstance(request, UpscaleRequest) and name is not None and card is not None:
        cards = {**cards, (Kind.CHECKPOINT, name): card}  # the checkpoint that paints
    notes += remarks_on(library, cards)
    return Intake(card=card, vae=vae, cards=cards, notes=tuple(notes))


def kept(request: R, keep: Callable[[str], str]) -> R:
    """The request with its pictures in the store, as `keep` calls them; BadFile if one is none."""
    if EACH in sources(request):
        raise BadRequest(
            f'the picture "{EACH}" stands for those of a batch, and this is none',
            hint="`darkroom batch` takes a folder or a list.",
        )
    return replaced(request, picture=keep, model=_same)


def settled(
    request: ImageRequest, found: Intake, size_of: Callable[[str], tuple[int, int]]
) -> ResolvedRequest:
    """The request with nothing left open; `size_of` gives the pixels of a kept picture."""
    if found.card is None:
        raise BadRequest("a picture needs a model")
    size = _working_size(request, found.card, size_of)
    return resolve(request, found.card, found.vae, picture=size, cards=found.cards)


def finishing(request: R, found: Intake) -> R:
    """A request for a finished picture, with the names that its models have."""
    return with_names(request, found.cards)


def cards_of(found: Intake) -> Cards:
    """The cards by the names in a settled request."""
    return by_name(found.cards)


def pictures_there(request: Parsed) -> None:
    """BadFile where a picture that `request` names is none, by its head; BadRequest where nothing
    of it would be painted.
    """
    from darkroom.media.picture import picture_size

    for source in filter(_is_file, sources(request)):
        picture_size(expanded(Path(source)))
    if isinstance(request, ImageRequest) and request.mask is not None and request.init is not None:
        _something_to_paint(request.init, request.mask)


def _something_to_paint(init: Init, block: Mask) -> None:
    from darkroom.media import mask as masks
    from darkroom.media.picture import read_picture

    if block.image is not None and _is_file(block.image):
        mask = masks.read_mask(expanded(Path(block.image)))
    elif block.image is None and block.sketch is None and _is_file(init.image):
        mask = masks.holes(read_picture(expanded(Path(init.image)), alpha=True))
    else:
        return
    masks.checked(mask, invert=block.invert, hard=block.softness == "hard")


def _is_file(source: str) -> bool:
    """Whether a source is neither what is in the store nor a picture of a batch."""
    return source != EACH and not is_stored(source)


def _working_size(
    request: ImageRequest, card: ModelCard, size_of: Callable[[str], tuple[int, int]]
) -> tuple[int, int] | None:
    """The size to run at of a request that begins with a picture; None of one that does not."""
    from darkroom.media.fit import own_size, working_size

    init, hires = request.init, request.hires
    if init is not None and init.strength > 0:
        width, height = size_of(init.image)
        if (more := request.outpaint) is not None:
            width, height = width + more.left + more.right, height + more.up + more.down
        return working_size(
            (width, height),
            card.native_size,
            (request.width, request.height),
            keep=request.outpaint is not None,
        )
    finished = init.image if init is not None else hires.first if hires is not None else None
    if finished is None:
        return None
    return own_size(size_of(finished))


def _same(_kind: Kind, name: str) -> str:
    return name
