"""What a captioner answers, and what makes one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol

from PIL import Image

from darkroom.core.errors import NotFinite

Tags = tuple[tuple[str, float], ...]  # (name, how sure from 0 to 1), the surest first
Check = Callable[[], None]  # raises Cancelled when the user wants to stop


def keep_going() -> None:
    """The Check of who never stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A picture in words."""

    text: str
    tags: Tags = ()
    heads: Mapping[str, Tags] = field(default_factory=dict)
    """What was decided one by one, such as the object or the style, each with all its choices."""
    notes: tuple[str, ...] = ()  # for the user: how far this is to be believed


class Captioner(Protocol):
    """Describes pictures."""

    tags: bool  # whether it gives tags, and so heeds `threshold` and `most`

    def describe(
        self,
        picture: Image.Image,
        *,
        threshold: float = 0.35,
        most: int = 50,
        check: Check = keep_going,
    ) -> Caption:
        """Describe `picture`, of any size and mode.

        Tags below `threshold`, and those after the first `most`, are left out. `check` is called
        now and then.
        """


def best(scores: Iterable[tuple[str, float]], *, threshold: float = 0.0, most: int = 1000) -> Tags:
    """The surest of `scores`, in order."""
    scores = list(scores)
    if not all(isfinite(score) for _, score in scores):
        raise NotFinite("the captioner gives no numbers", hint="Its file is probably damaged.")
    found = sorted(scores, key=lambda item: -item[1])[:most]
    return tuple((name, score) for name, score in found if score >= threshold)
