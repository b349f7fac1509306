"""Many pictures by one request: a grid that compares, a batch that works off a list."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.fields import Called, Frozen, Parsed, Source, dotted, in_group
from darkroom.core.processing import CaptionRequest, CutoutRequest, UpscaleRequest
from darkroom.core.request import ImageRequest

Taken = Literal[
    "prompt", "negative_prompt", "seed", "steps", "cfg_scale", "sampler", "scheduler", "width",
    "height", "clip_skip", "variation_seed", "variation_strength",
]  # fmt: skip
Values = Annotated[str, Field(max_length=100_000)]


class Axis(Frozen):
    """What changes along one axis of a grid."""

    field: str = Field(
        max_length=400,
        description="A field of the request, such as steps or hires.strength; prompt for search and"
        " replace; lora:NAME for a LoRA's strength.",
    )
    values: Values = Field(
        description="Its values: 10, 20, 30; ranges as 1-10 (+2) or 1-10 [5]; names; for prompt the"
        " words to look for, then what to put in their place."
    )


class GridRequest(Parsed):
    """The same picture many times, with what the axes change."""

    kind: Literal["grid"] = "grid"
    base: ImageRequest = Field(description="What all of them share.")
    x: Axis | None = Field(None, description="What changes from left to right.")
    y: Axis | None = Field(None, description="What changes from top to bottom.")
    z: Axis | None = Field(None, description="What changes from grid to grid.")
    matrix: bool = Field(
        False,
        description="Prompt matrix: the first part of the prompt with every choice of the others;"
        " | separates them.",
        json_schema_extra=in_group("matrix"),
    )
    matrix_of: Literal["prompt", "negative_prompt"] = Field(
        "prompt",
        description="Which of the two the matrix is made of.",
        json_schema_extra=in_group("matrix"),
    )
    matrix_join: Literal["comma", "space"] = Field(
        "comma",
        description="What stands between the parts that were chosen.",
        json_schema_extra=in_group("matrix"),
    )
    matrix_at_start: bool = Field(
        False,
        description="Put the parts that vary before the one that is always there.",
        json_schema_extra=in_group("matrix"),
    )
    legend: bool = Field(
        True,
        description="Write the values at the sides of the grid.",
        json_schema_extra=in_group("grid"),
    )
    margin: int = Field(
        0,
        ge=0,
        le=500,
        description="Pixels between the pictures.",
        json_schema_extra=in_group("grid"),
    )
    random_seeds: bool = Field(
        False,
        description="Another seed for each picture.",
        json_schema_extra=in_group("grid"),
    )
    vary_seeds: tuple[Literal["x", "y", "z"], ...] = Field(
        (),
        max_length=3,
        description="Count the seed up along this axis; may be given again.",
        json_schema_extra=in_group("grid"),
    )


class BatchRequest(Parsed):
    """One request for each picture, or each line of a table; what is done is not done again."""

    kind: Literal["batch"] = "batch"
    base: ImageRequest | UpscaleRequest | CutoutRequest | CaptionRequest = Field(
        discriminator="kind",
        description='What is done; a picture called "each" is the one whose turn it is.',
    )
    inputs: tuple[Source, ...] = Field(
        min_length=1,
        max_length=10_000,
        description="Pictures, folders, archives (zip, tar), tables (csv, json, jsonl) and lists of"
        " prompts (txt).",
    )
    masks: Source | None = Field(
        None,
        description="Folder with a mask for each picture, under the same name.",
        json_schema_extra=in_group("batch"),
    )
    prompt_from: Literal["none", "name", "text", "metadata"] = Field(
        "none",
        description="Where each picture's prompt is: in its name, in a .txt or .caption beside it,"
        " or in its metadata.",
        json_schema_extra=in_group("batch"),
    )
    prompt_place: Literal["replace", "before", "after"] = Field(
        "before",
        description="Where it goes beside the prompt of the request; those of tables and lists go"
        " there too.",
        json_schema_extra=in_group("batch"),
    )
    take: tuple[Taken, ...] = Field(
        ("prompt", "negative_prompt"),
        description="What is taken of a picture's metadata; all but the prompts replaces what the"
        " request says. May be given again.  [default: prompt and negative_prompt]",
        json_schema_extra=in_group("batch"),
    )
    recursive: bool = Field(
        False,
        description="Look into the folders in a folder too.",
        json_schema_extra=in_group("batch"),
    )
    seeds: Literal["each", "same", "count"] = Field(
        "each",
        description="Without a seed, a random one for each item, or the same for all; count goes up"
        " by one from item to item. A seed that is given is for all, unless they count.",
        json_schema_extra=in_group("batch"),
    )


Request = Annotated[
    ImageRequest | UpscaleRequest | CutoutRequest | CaptionRequest | GridRequest | BatchRequest,
    Field(discriminator="kind"),
]

Anything = type[
    ImageRequest | UpscaleRequest | CutoutRequest | CaptionRequest | GridRequest | BatchRequest
]
KINDS: Mapping[str, Anything] = MappingProxyType(
    {
        "image": ImageRequest,
        "upscale": UpscaleRequest,
        "cutout": CutoutRequest,
        "caption": CaptionRequest,
        "grid": GridRequest,
        "batch": BatchRequest,
    }
)


def parse_request(data: object, *, called: Called = dotted) -> Request:
    """A request of any kind, of untrusted data; one without a `kind` is for pictures.

    BadRequest says in one sentence what is wrong with it, and where.
    """
    if not isinstance(data, Mapping):
        raise BadRequest(
            "a request is an object with fields", hint='Such as {"prompt": "a red apple"}.'
        )
    kind = data.get("kind", "image")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UnknownName("kind of request", str(kind), KINDS, hint=f"Kinds: {', '.join(KINDS)}.")
    return KINDS[kind].parse(data, called=called)
