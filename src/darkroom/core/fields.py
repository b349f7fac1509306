"""The types that the fields of requests and settings are made of."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
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


Called = Callable[[tuple[int | str, ...]], str]  # what a field at that place is called


def dotted(place: tuple[int | str, ...]) -> str:
    """`init.strength`."""
    return shorten(".".join(map(str, place)), 80) or "request"


class Frozen(BaseModel):
    """Immutable, and a misspelt field is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Parsed(Frozen):
    """A request of a user."""

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, called: Called = dotted) -> Self:
        """Make a request of untrusted `data`, or raise BadRequest with one readable sentence.

        `called` gives fields the names that the user knows them by.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise BadRequest(readable(error, called)) from None


def readable(error: ValidationError, called: Called = dotted) -> str:
    """The first problems of a ValidationError in words, at most three."""
    problems = []
    for item in error.errors(include_url=False)[:3]:
        name = called(item["loc"])
        text = re.sub(r"^(Input|String) should ", "must ", item["msg"])
        text = text.partition(", unable to parse")[0].removeprefix("Value error, ")
        if words := _WORDS.get(item["type"]):
            bounds = item.get("ctx", {}).items()
            text = words.format_map({n: f"{v:g}" if type(v) is float else v for n, v in bounds})
        if item["type"] not in _WITHOUT_VALUE:
            text = f"{text} (you gave {_given(item['input'])})"
            text += _cure(item["type"], item.get("ctx", {}), item["input"])
        # A flag is the subject of the sentence; a field stands before it, as in a list.
        apart = " " if name.startswith("--") and text.startswith(("must ", "is ")) else ": "
        problems.append(f"{name}{apart}{text}" if name else text)
    return "; ".join(problems)


def _given(value: object) -> str:
    number = isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+", value)
    return shorten(value if number and isinstance(value, str) else repr(value), 40)


def _cure(kind: str, bounds: Mapping[str, Any], value: object) -> str:
    """What to write instead, where it can be told: for a percentage, and for an odd size."""
    with suppress(TypeError, ValueError, OverflowError):
        number = float(value)  # type: ignore[arg-type]
        if kind == "less_than_equal" and bounds["le"] == 1 and 5 <= number <= 100:
            return f"; write {number / 100:g} for {number:g} %"
        if kind == "multiple_of":
            step = int(bounds["multiple_of"])
            below = int(number // step * step)
            return f": {below} or {below + step}"
    return ""


_WITHOUT_VALUE = ("value_error", "missing")  # what was given is said already, or was not given
# In words, what pydantic says in those of a programmer.
_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field",
    "invalid_key": "must have names that are text",
    "string_type": "must be text",
    "less_than_equal": "must be at most {le}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} of them",
    "too_long": "must have at most {max_length} of them",
    "model_type": "must be an object with fields",
    "model_attributes_type": "must be an object with fields",
    "union_tag_not_found": "must say its kind",
    "union_tag_invalid": "must be of the kind {expected_tags}",
}


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
