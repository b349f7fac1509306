"""The models that the blocks of a request name: found here before a weight is read; no torch.

    cards = named(library, request)        {(Kind.UPSCALER, "4x-UltraSharp"): ModelCard(…)}

The checkpoint and the VAE of the request itself are not among them.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.fields import Parsed
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.packaged import packaged
from darkroom.core.places import models
from darkroom.core.processing import UpscaleRequest
from darkroom.core.recipe import Cards, Recipe
from darkroom.core.request import ImageRequest
from darkroom.library.listing import STARTER
from darkroom.library.models import Library
from darkroom.library.tags import unclear
from darkroom.weights.upscaler_files import SHIPPED, builtin

# What the model of each role in a recipe is.
ROLES: Mapping[str, Kind] = MappingProxyType(
    {
        "refiner": Kind.CHECKPOINT,
        "hires": Kind.CHECKPOINT,
        "detail": Kind.CHECKPOINT,
        "paint": Kind.CHECKPOINT,
        "upscaler": Kind.UPSCALER,
        "detector": Kind.DETECTOR,
        "restorer": Kind.RESTORER,
        "segmenter": Kind.SEGMENTER,
    }
)
# Families with latents of one kind.
_SHARED = {Arch.SD2: str(Arch.SD1), Arch.SDXL_REFINER: str(Arch.SDXL)}


def named(library: Library, request: Parsed) -> Cards:
    """The card of every model in the blocks of `request`, by kind and the name that it has there.

    UnknownName with the nearest names where one is not here; BadFile where it is of another kind;
    BadRequest where a checkpoint cannot go on from what the first one made.
    """
    cards = {each: _found(library, *each) for each in models(request)}
    if isinstance(request, ImageRequest) and (request.hires or request.refiner):
        _check_latents(library.find(request.model), request, cards)
    return cards


def remarks_on(library: Library, cards: Cards) -> Iterator[str]:
    """Notes where a name means another file as well."""
    for (kind, name), card in cards.items():
        yield from unclear(library, kind, name, card=card)


def checkpoint_of(request: Parsed) -> str | None:
    """The name of the checkpoint that runs first; None where none does."""
    match request:
        case ImageRequest():
            return request.model
        case UpscaleRequest(paint=paint) if paint is not None:
            return paint.model or STARTER
        case _:
            return None


def named_again(library: Library, recipe: Recipe) -> Cards:
    """The same models as a recipe has, by their hashes; by their names where those are not here."""
    found = {}
    for kind, name in models(recipe.request):
        used = (u for u in recipe.models if u.name == name and ROLES.get(u.role) is kind)
        digest = next((u.sha256 for u in used), name)
        try:
            found[kind, name] = library.find_of(kind, digest)
        except UnknownName:
            found[kind, name] = _found(library, kind, name)
    return found


def comes_along(kind: Kind, name: str) -> bool:
    """Whether a model is one of the program, or of a package that may be installed."""
    return packaged(kind, name) is not None or name.casefold() == SHIPPED


def _found(library: Library, kind: Kind, name: str) -> ModelCard:
    """The file of that name; or, of upscalers, one that comes along or is in a package."""
    try:
        return library.find_of(kind, name)
    except UnknownName:
        if kind is Kind.UPSCALER and (card := builtin(name)) is not None:
            return card
        raise


def _check_latents(first: ModelCard, request: ImageRequest, cards: Cards) -> None:
    """Refuse a checkpoint that would go on from latents of another kind than its own."""
    hires, refiner = request.hires, request.refiner
    asked = []
    if refiner is not None:
        asked.append(("refiner", refiner.model, "Choose one of the same family."))
    if hires is not None and hires.model and hires.upscaler.casefold().startswith("latent"):
        hint = "Choose one of the same family, or a --hires-upscaler that enlarges pixels."
        asked.append(("hires model", hires.model, hint))
    for what, name, hint in asked:
        card = cards[Kind.CHECKPOINT, name]
        if _latents(card) != _latents(first):
            raise BadRequest(
                f"the {what} {card.name!r} ({card.arch}) cannot go on from latents of"
                f" {first.name!r} ({first.arch})",
                hint=hint,
            )


def _latents(card: ModelCard) -> str:
    """What kind of latents a checkpoint works on."""
    return _SHARED.get(card.arch, str(card.arch))
