"""From the prompts of a request to those of one picture: styles, comments, choices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from darkroom.core.blocks import Sampled
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
from darkroom.tasks.seeds import seed_of, variation_seed_of

Around = Callable[[str, str], tuple[str, str]]  # what is put around a prompt and a negative one
Prompts = dict[str, str | None]


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
        written = (self.of_picture(request, k)[0] for k in pictures)
        prompts = dict.fromkeys(chain.from_iterable(map(prompts_of, written)))
        asked = (wishes(networks(text)[1], idle=True)[0] for text in prompts)
        return tuple(chain.from_iterable(asked))

    def of_picture(self, request: ResolvedRequest, image: int) -> tuple[ResolvedRequest, list[str]]:
        """The request with the prompts of one picture in it, and notes on what has no effect.

        Choices are made by the picture's own seed, so that the same picture alone is the same.
        Styles are put around the prompts of the second run too, and around no others.
        """
        varied = variation_seed_of(request, image)
        seed = seed_of(request, image) if varied is None else varied
        pen = _Pen(self.wildcards, seed if request.dynamic_prompts else None)
        around = partial(apply_styles, styles=find_styles(request.styles, self.styles))
        own: dict[str, object] = {
            **pen.prompts(request, around),
            "detail": tuple(each.model_copy(update=pen.prompts(each)) for each in request.detail),
            "regions": tuple(
                each.model_copy(update={"prompt": pen.text(each.prompt)})
                for each in request.regions
            ),
            "styles": (),
            "dynamic_prompts": False,
        }
        if (hires := request.hires) is not None:
            own["hires"] = hires.model_copy(update=pen.prompts(hires, around))
        return request.model_copy(update=own), list(dict.fromkeys(pen.notes))


def prompts_of(request: ResolvedRequest) -> list[str]:
    """The prompts of all runs of a picture: what their tags name is put on the checkpoint."""
    blocks = (request, request.hires, *request.detail)
    return [block.prompt for block in blocks if block is not None and block.prompt is not None]


def _as_it_is(prompt: str, negative: str) -> tuple[str, str]:
    return prompt, negative


@dataclass(slots=True)
class _Pen:
    """Writes the prompts of one picture: without comments, and with what is chosen by `seed`."""

    wildcards: Wildcards
    seed: int | None  # None: nothing is chosen
    notes: list[str] = field(default_factory=list)

    def text(self, text: str) -> str:
        """One prompt, final."""
        text = without_comments(text)
        if self.seed is None:
            return text
        chosen = expand(text, self.seed, self.wildcards)
        names = sorted(set(chosen.unknown))
        self.notes += [f"there is no wildcard file for __{name}__" for name in names]
        return chosen.text

    def prompts(self, block: Sampled | ResolvedRequest, around: Around = _as_it_is) -> Prompts:
        """The two prompts of a run, by their fields; None stays open. Notes on their tags."""
        found = around(block.prompt or "", block.negative_prompt or "")
        prompt, negative = map(self.text, found)
        (text, tags), (avoided, words) = map(networks, (prompt, negative))
        self.notes += (*wishes(tags)[1], *unread(text), *unread(avoided))
        if words:
            self.notes.append("a <…> tag in the negative prompt is read as words, as in A1111")
        return {
            "prompt": None if block.prompt is None else prompt,
            "negative_prompt": None if block.negative_prompt is None else negative,
        }


def template_of(request: ResolvedRequest, written: ResolvedRequest) -> Template | None:
    """What the user wrote, where it is not what the picture was made of."""
    asked = Template(
        prompt=request.prompt, negative_prompt=request.negative_prompt, styles=request.styles
    )
    made = Template(prompt=written.prompt, negative_prompt=written.negative_prompt)
    return None if asked == made else asked
