"""What a user asks for. One request is one recipe: with the model it fully determines the pixels.

A parameter is declared once, here. Its command line flag, form control, OpenAPI entry, docs and
metadata key are made from the declaration, so a field carries its description, bounds and unit.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from darkroom.core.errors import BadRequest, shorten
from darkroom.core.sampler_table import AUTOMATIC, find_sampler, find_scheduler

MAX_PROMPT = 1_000_000  # characters
MAX_SEED = 2**64 - 1


def _random_seed(value: object) -> object:
    """Users of A1111 write -1 for a random seed."""
    return None if value in (-1, "-1") else value


class Frozen(BaseModel):
    """Immutable, and a misspelt field is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Side = Annotated[int, Field(ge=64, le=8192, multiple_of=8)]  # pixels
Steps = Annotated[int, Field(ge=1, le=500)]
Scale = Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT)]


class ImageRequest(Frozen):
    """One or more pictures from a prompt."""

    kind: Literal["image"] = "image"
    prompt: Prompt = Field("", description="What the picture shows.")
    negative_prompt: Prompt = Field("", description="What the picture should not show.")
    model: str = Field(
        "starter",
        min_length=1,
        max_length=4096,
        description="Checkpoint: a name from `darkroom models`, a hash, or the path of a file.",
    )
    width: Side | None = Field(
        None,
        description="Width in pixels, a multiple of 8.  [default: the model's own]",
        json_schema_extra={"group": "size", "step": 8},
    )
    height: Side | None = Field(
        None,
        description="Height in pixels, a multiple of 8.  [default: the model's own]",
        json_schema_extra={"group": "size", "step": 8},
    )
    steps: Steps | None = Field(
        None,
        description="Denoising steps.  [default: the model's own, mostly 20]",
        json_schema_extra={"group": "sampling"},
    )
    sampler: str = Field(
        "DPM++ 2M",
        max_length=200,
        description="Sampler, by any name that A1111 or ComfyUI gives it.",
        json_schema_extra={"group": "sampling"},
    )
    scheduler: str = Field(
        AUTOMATIC,
        max_length=200,
        description="Noise schedule; Automatic takes the sampler's own.",
        json_schema_extra={"group": "sampling"},
    )
    cfg_scale: Scale | None = Field(
        None,
        description="How strictly to follow the prompt; 1 turns guidance off and is about twice as"
        " fast.  [default: the model's own, mostly 7]",
        json_schema_extra={"group": "sampling", "step": 0.5},
    )
    seed: Annotated[Seed | None, BeforeValidator(_random_seed)] = Field(
        None,
        description="Seed of the first picture; the next ones count up.  [default: random]",
        json_schema_extra={"group": "sampling"},
    )
    count: int = Field(1, ge=1, le=10_000, description="How many pictures.")
    clip_skip: int = Field(
        1,
        ge=1,
        le=12,
        description="Take the text encoder's output this many layers from its end.",
        json_schema_extra={"group": "advanced"},
    )

    @model_validator(mode="before")
    @classmethod
    def _split_sampler_name(cls, data: Any) -> Any:
        """Read "DPM++ 2M Karras" as a sampler and a scheduler, as older tools write it."""
        if not isinstance(data, Mapping) or not isinstance(data.get("sampler"), str):
            return data
        sampler, scheduler = find_sampler(data["sampler"])
        found = {**data, "sampler": sampler.name}
        if scheduler is not None and found.get("scheduler", AUTOMATIC) == AUTOMATIC:
            found["scheduler"] = scheduler.name
        return found

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, name: str) -> str:
        return find_scheduler(name).name

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Make a request of untrusted `data`, or raise BadRequest with one readable sentence."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise BadRequest(*_readable(error)) from None


class ResolvedRequest(ImageRequest):
    """An image request with nothing left open; `core.recipe.resolve` makes it."""

    width: Side
    height: Side
    steps: Steps
    cfg_scale: Scale
    seed: Seed


Request = ImageRequest  # becomes a union discriminated by `kind` as more kinds arrive


def _readable(error: ValidationError) -> tuple[str]:
    """The first problems of a ValidationError in words, at most three."""
    problems = []
    for item in error.errors(include_url=False)[:3]:
        name = ".".join(str(part) for part in item["loc"]) or "request"
        text = re.sub(r"^(Input|String) should ", "must ", item["msg"])
        text = text.replace("Extra inputs are not permitted", "there is no such field")
        given = shorten(repr(item["input"]), 40)
        problems.append(f"{name}: {text} (you gave {given})")
    return ("; ".join(problems),)
