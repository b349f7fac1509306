"""From the prompts of a request to those of one picture: styles, comments, choices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

from darkroom.core.prompt import (
    Style,
    Wildcards,
    Wish,
    apply_styles,
    expand,
    find_styles,
    networks,
    unread,
    wishes,
    without_comments,
)
from darkroom.core.recipe import Template
from darkroom.core.request import ResolvedRequest
from darkroom.tasks.course import seed_of, variation_seed_of


@dataclass(frozen=True, slots=True)
class Wording:
    """What this installation gives to prompts."""

    styles: Mapping[str, Style] = field(default_factory=dict)
    wildcards: Wildcards = field(default_factory=Wildcards)

    def check(self, request: ResolvedRequest) -> None:
        """UnknownName when a style is not here; before any time is spent."""
        find_styles(request.styles, self.styles)

    def wishes(self, request: ResolvedRequest) -> tuple[Wish, ...]:
        """The networks that the prompts of its pictures ask for, each as often as it is asked for.

        Those that would change nothing too. BadRequest when a tag cannot be read.
        """
        pictures = range(request.count if request.dynamic_prompts else 1)
        prompts = dict.fromkeys(self.of_picture(request, k)[0].prompt for k in pictures)
        asked = (wishes(networks(text)[1], idle=True)[0] for text in prompts)
        return tuple(chain.from_iterable(asked))

    def of_picture(self, request: ResolvedRequest, image: int) -> tuple[ResolvedRequest, list[str]]:
        """The request with the prompts of one picture in it, and notes on what has no effect.

        Choices are made by the picture's own seed, so that the same picture alone is the same.
        """
        styled = apply_styles(
            request.prompt, request.negative_prompt, find_styles(request.styles, self.styles)
        )
        prompts = [without_comments(text) for text in styled]
        notes: list[str] = []
        if request.dynamic_prompts:
            varied = variation_seed_of(request, image)
            seed = seed_of(request, image) if varied is None else varied
            expanded = [expand(text, seed, self.wildcards) for text in prompts]
            prompts = [each.text for each in expanded]
            unknown = {name for each in expanded for name in each.unknown}
            notes += [f"there is no wildcard file for __{name}__" for name in sorted(unknown)]
        (text, tags), (negative, words) = map(networks, prompts)
        notes += dict.fromkeys((*wishes(tags)[1], *unread(text), *unread(negative)))
        if words:
            notes.append("a <…> tag in the negative prompt is read as words, as in A1111")
        own = {
            "prompt": prompts[0],
            "negative_prompt": prompts[1],
            "styles": (),
            "dynamic_prompts": False,
        }
        return request.model_copy(update=own), notes


def template_of(request: ResolvedRequest, written: ResolvedRequest) -> Template | None:
    """What the user wrote, where it is not what the picture was made of."""
    asked = Template(
        prompt=request.prompt, negative_prompt=request.negative_prompt, styles=request.styles
    )
    made = Template(prompt=written.prompt, negative_prompt=written.negative_prompt)
    return None if asked == made else asked
