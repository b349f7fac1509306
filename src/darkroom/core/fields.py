"""The types that the fields of requests and settings are made of."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from darkroom.core.errors import BadRequest, shorten

MAX_PROMPT = 1_000_000  # characters
MAX_SEED = 2**64 - 1


def _random_seed(value: object) -> object:
    """Users of A1111 write -1 for a random seed."""
    return None if value in (-1, "-1") else value


class Frozen(BaseModel):
    """Immutable, and a misspelt field is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Parsed(Frozen):
    """A request of a user."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Make a request of untrusted `data`, or raise BadRequest with one readable sentence."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise BadRequest(readable(error)) from None


def readable(error: ValidationError) -> str:
    """The first problems of a ValidationError in words, at most three."""
    problems = []
    for item in error.errors(include_url=False)[:3]:
        name = ".".join(str(part) for part in item["loc"]) or "request"
        text = re.sub(r"^(Input|String) should ", "must ", item["msg"])
        text = text.replace("Extra inputs are not permitted", "there is no such field")
        text = text.partition(", unable to parse")[0].replace("a valid integer", "a whole number")
        text = text.replace("Field required", "is missing")
        if item["type"] == "value_error":
            problems.append(f"{name}: {text.removeprefix('Value error, ')}")
            continue
        given = shorten(repr(item["input"]), 40)
        problems.append(f"{name}: {text} (you gave {given})")
    return "; ".join(problems)


Side = Annotated[int, Field(ge=64, le=8192, multiple_of=8)]  # pixels
Steps = Annotated[int, Field(ge=1, le=500)]
Scale = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
OpenSeed = Annotated[Seed | None, BeforeValidator(_random_seed)]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT)]
Name = Annotated[str, Field(min_length=1, max_length=4096)]  # of a model, or its path or hash
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Level = Annotated[float, Field(ge=0, le=1e4, allow_inf_nan=False)]  # of noise
Emphasis = Literal["Original", "No norm", "Ignore", "None"]
Rng = Literal["cpu", "nv", "gpu"]

# A picture that a request begins with: the path of a file; or, in recipes and wherever a file was
# handed in before, "sha256:" and the 64 digits of its content.
Source = Annotated[str, Field(min_length=1, max_length=4096)]
STORED = "sha256:"
EACH = "each"  # in a batch: the picture whose turn it is


def in_group(group: str, step: float | None = None, flag: str = "") -> dict[str, JsonValue]:
    """Where a form shows a field, by how much its control steps, and its flag if it has its own."""
    told: dict[str, JsonValue] = {"group": group}
    if step is not None:
        told["step"] = step
    if flag:
        told["flag"] = flag
    return told
