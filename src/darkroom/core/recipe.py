"""What was really run: enough to make the same pixels again. Embedded in every picture."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import Field, ValidationError

from darkroom.core.errors import BadFile, UnknownName, shorten
from darkroom.core.fields import Frozen, Parsed, Prompt, Seed
from darkroom.core.model import Kind, ModelCard
from darkroom.core.places import replaced
from darkroom.core.processing import CutoutRequest, UpscaleRequest
from darkroom.core.request import BAKED, ImageRequest, ResolvedRequest
from darkroom.core.sampler_table import AUTOMATIC, resolve_scheduler

R = TypeVar("R", bound=Parsed)
_CURE = "The file is damaged, or another version of Darkroom made it."
MAX_RECIPE = 13_000_000  # characters; two prompts of the greatest length, all escaped, fit


Cards = Mapping[tuple[Kind, str], ModelCard]  # by the names in a request
Asked = ImageRequest | UpscaleRequest | CutoutRequest
Role = Literal[
    "checkpoint", "vae", "lora", "hypernetwork", "embedding",
    # checkpoints of other runs, and models that are no checkpoints
    "refiner", "hires", "detail", "paint", "upscaler", "detector", "restorer", "segmenter",
]  # fmt: skip


class UsedModel(Frozen):
    """One weight file that took part."""

    role: Role = "checkpoint"
    name: str  # of networks and embeddings the one in the prompt
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    autov3: str = Field(default="", pattern=r"^([0-9a-f]{12})?$")  # of a LoRA's tensors alone


class Template(Frozen):
    """What the user wrote, where the prompts of the picture were made from it."""

    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    styles: tuple[str, ...] = ()


class Recipe(Frozen):
    """One picture: the request with nothing left open, and what it ran on.

    Equal recipes give equal pixels on the same machine. Elsewhere, or where `differences` names
    one, the last place of a number may round another way.
    """

    format: Literal[1] = 1
    request: Annotated[
        ResolvedRequest | UpscaleRequest | CutoutRequest, Field(discriminator="kind")
    ]
    image: int = Field(0, ge=0)  # which of the request's pictures, from 0
    seed: Seed = 0  # of this picture; 0 where nothing is drawn
    variation_seed: Seed | None = None  # of this picture, where noise of another seed is mixed in
    template: Template | None = None  # None where the prompts are those that the user wrote
    models: tuple[UsedModel, ...] = ()
    device: str = ""  # class of device, such as "cpu float32"
    plan: dict[str, int | str | bool | None] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    source: Annotated[str, Field(max_length=MAX_RECIPE)] = ""
    """What the picture that was upscaled or cut out said about itself, as infotext."""

    @property
    def drawn(self) -> ResolvedRequest:
        """The request of a picture that was made from a prompt; BadFile of one that was not."""
        if isinstance(self.request, ResolvedRequest):
            return self.request
        raise BadFile(f"the recipe is one of {self.request.kind}, not of a picture from a prompt")

    def again(self) -> Asked:
        """The request that makes this one picture again."""
        if not isinstance(self.request, ResolvedRequest):
            return self.request
        own = {"seed": self.seed, "variation_seed": self.variation_seed, "count": 1}
        return ImageRequest.parse(self.request.model_dump() | own)

    def used(self, role: str) -> list[UsedModel]:
        """The files of one role."""
        return [model for model in self.models if model.role == role]

    def differences(self, now: "Recipe") -> list[str]:
        """What `now`, a recipe of the same picture, runs on that this one did not, in words."""
        pairs: dict[str, tuple[object, object]] = {"device": (self.device, now.device)}
        for role in _COMPARED:
            before, after = _other(self.used(role), now.used(role))
            pairs |= {
                f"{_SHOWN.get(role, role)} {name!r}": (before.get(name), after.get(name))
                for name in before | after
            }
        pairs |= {
            f"version of {name}": (self.versions.get(name), now.versions.get(name))
            for name in self.versions | now.versions
        }
        pairs |= {
            name.replace("_", " "): (self.plan.get(name), now.plan.get(name))
            for name in self.plan | now.plan
        }
        return [
            f"{name}: {_told(before)} when it was made, {_told(after)} now"
            for name, (before, after) in pairs.items()
            if before != after
        ]

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read an untrusted recipe; BadFile when it is none."""
        if len(text) > MAX_RECIPE:
            raise BadFile(f"the recipe is too long ({len(text):,} characters)", hint=_CURE)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the recipe"
            told = f"the recipe cannot be read: {where}: {problem['msg']}"
            raise BadFile(told, hint=_CURE) from None
        except UnknownName as error:
            raise BadFile(f"the recipe cannot be read: {error}", hint=_CURE) from None


_COMPARED = tuple(role for role in get_args(Role) if role != "checkpoint")
_SHOWN = {
    "vae": "VAE",
    "lora": "LoRA",
    "hires": "checkpoint of the second run",
    "detail": "checkpoint of the detailer",
    "paint": "checkpoint that paints detail",
    "restorer": "model that mends faces",
    "segmenter": "model that tells the background",
}


def _other(
    before: list[UsedModel], after: list[UsedModel]
) -> tuple[dict[str, str], dict[str, str]]:
    """The files on one side only, by name: the same file under another name is no difference."""
    shared = {used.sha256 for used in before} & {used.sha256 for used in after}
    first, second = (
        {used.name: used.sha256[:10] for used in side if used.sha256 not in shared}
        for side in (before, after)
    )
    return first, second


def _told(value: object) -> str:
    return "none" if value is None else shorten(str(value), 40)


DEFAULTS: dict[str, float | str] = {"steps": 20, "cfg_scale": 7.0}


def resolve(
    request: ImageRequest,
    card: ModelCard,
    vae: ModelCard | None = None,
    *,
    picture: tuple[int, int] | None = None,
    cards: Cards | None = None,
) -> ResolvedRequest:
    """Fill in what the request leaves open: what the model recommends, a seed, the schedule.

    `vae` is the one that was found for the request, None for the model's own; `cards` are those of
    the models in its blocks. `picture` is the size to work at (width, height) where the request
    begins with a picture. What a further run leaves open stays so: it is as in the first.
    """
    given = {name: value for name, value in request.model_dump().items() if value is not None}
    if request.scheduler == AUTOMATIC:
        given["scheduler"] = resolve_scheduler(request.sampler, AUTOMATIC).name
    if request.variation_strength and request.variation_seed is None:
        given["variation_seed"] = secrets.randbelow(2**32)
    if request.mask is not None and request.mask.full_size is None:
        open_size = request.width is None and request.height is None
        given["mask"] = {**given["mask"], "full_size": open_size}
    own = {"width": card.native_size, "height": card.native_size, **card.recommended}
    if picture is not None:
        own |= {"width": picture[0], "height": picture[1]}
    # Paths would tell strangers about this machine.
    given |= {"model": card.name, "vae": BAKED if vae is None else vae.name}
    filled = {**DEFAULTS, "seed": secrets.randbelow(2**32), **own, **given}
    return with_names(ResolvedRequest.parse(filled), cards or {})


def with_names(request: R, cards: Cards) -> R:
    """The request with the names that the models in its blocks have, which are no paths."""
    names = names_of(cards)
    return replaced(request, model=lambda kind, name: names.get((kind, name), name))


def by_name(cards: Cards) -> Cards:
    """The cards by the names that `with_names` gives them."""
    names = names_of(cards)
    return {(kind, names[kind, name]): card for (kind, name), card in cards.items()}


def names_of(cards: Cards) -> Mapping[tuple[Kind, str], str]:
    """What each model is called in a recipe: its name, or its hash where two have one name."""
    owners: dict[tuple[Kind, str], str] = {}
    for (kind, _), card in cards.items():
        owners.setdefault((kind, card.name), card.sha256)
    return {
        (kind, name): card.name if owners[kind, card.name] == card.sha256 else card.sha256
        for (kind, name), card in cards.items()
    }
