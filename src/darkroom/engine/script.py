"""What guides a run, call by call: a prompt whose text may change on the way.

    prompt ─ parts ─ schedule ─► texts ─ TextEncoder ─► Script

Steps are counted in network calls, as A1111 counts them: a sampler that calls twice per step has
twice as many, and `[a:b:3]` gives the calls 0 to 3 to a.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from darkroom.core.prompt import Allowance, Stage, networks, parts, schedule
from darkroom.core.recipe import UsedModel
from darkroom.engine.conditioning import Conditioning
from darkroom.engine.shelf import Shelf
from darkroom.engine.text import Reading, TextEncoder, pieces_of
from darkroom.sampling.regional import Place


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a prompt over the run."""

    weight: float
    ends: tuple[int, ...]  # the last call of each stage, rising
    encodings: tuple[Conditioning, ...]  # one per stage, all of one length

    def at(self, call: int) -> Conditioning:
        """What holds at `call`, from 0; the last stage also after its end."""
        return self.encodings[min(bisect_left(self.ends, call), len(self.ends) - 1)]


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the picture with a prompt of its own: parts that AND joins, and where they hold."""

    parts: tuple[Part, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Script:
    """A prompt over the run: parts that AND joins, and what they are to lead away from."""

    parts: tuple[Part, ...]
    negative: Part
    embeddings: tuple[UsedModel, ...] = ()  # that were found in the texts
    areas: tuple[Area, ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """How the steps written in a prompt are counted."""

    calls: int  # of this run
    before: int = 0  # calls of the run before, where this is a second one (hires)
    old: bool = False  # read them as A1111 before 1.6 did

    def stages(self, text: str, allowance: Allowance) -> tuple[Stage, ...]:
        """What `text` says in which call of this run."""
        if not self.before:
            return schedule(text, self.calls, old=self.old, allowance=allowance)
        return schedule(
            text, self.before, hires_steps=self.calls, old=self.old, allowance=allowance
        )


class Writer:
    """Encodes prompts with one text encoder, and the embeddings of a shelf."""

    def __init__(
        self, encoder: TextEncoder, *, shelf: Shelf | None, say: Callable[[str], None]
    ) -> None:
        self._encoder = encoder
        self._shelf = shelf
        self._say = say

    def write(self, prompt: str, negative: str, *, reading: Reading, timing: Timing) -> Script:
        """Encode both for every stage of the run; BadRequest when they are too long.

        Tags such as `<lora:…>` are no text; in the negative prompt they are, as in A1111.
        """
        composed, room = parts(networks(prompt)[0]), Allowance()
        staged = [
            timing.stages(text, room) for text in (*(part.text for part in composed), negative)
        ]
        reading, used = self._with_words(reading, staged)
        encoder, negated = self._encoder, staged.pop()
        made = [_encoded(stages, encoder.encode_group, reading) for stages in staged]
        last = _encoded(negated, encoder.encode_negative, reading)
        return Script(
            tuple(Part(part.weight, *one) for part, one in zip(composed, made, strict=True)),
            Part(1.0, *last),
            used,
        )

    def _with_words(
        self, reading: Reading, staged: Sequence[Sequence[Stage]]
    ) -> tuple[Reading, tuple[UsedModel, ...]]:
        """`reading` with the embeddings that the stages name."""
        if not self._shelf:
            return reading, ()
        texts = dict.fromkeys(stage.text for stages in staged for stage in stages)
        pieces = (piece.text for text in texts for piece in pieces_of(text, reading.emphasis))
        words, used = self._shelf.words(pieces, self._encoder.widths, self._say)
        return replace(reading, words=words), used


def _encoded(
    stages: Sequence[Stage],
    encode: Callable[[Sequence[str], Reading], list[Conditioning]],
    reading: Reading,
) -> tuple[tuple[int, ...], tuple[Conditioning, ...]]:
    """The last call of each stage, and its encoding."""
    encodings = encode([stage.text for stage in stages], reading)
    return tuple(stage.end for stage in stages), tuple(encodings)
