"""What guides a run, call by call: a prompt whose text may change on the way.

    prompt ─ parts ─ schedule ─► texts ─ TextEncoder ─► Script

Steps are counted in network calls, as A1111 counts them: a sampler that calls twice per step has
twice as many, and `[a:b:3]` gives the calls 0 to 3 to a.
"""

from bisect import bisect_left
from dataclasses import dataclass

from darkroom.core.errors import BadRequest
from darkroom.core.prompt import parts, schedule
from darkroom.engine.chunks import ROOM
from darkroom.engine.text import Conditioning, Reading, TextEncoder

MAX_TOKENS = 75_000  # each chunk of 75 makes every attention to the text as much longer


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
class Script:
    """A prompt over the run: parts that AND joins, and what they are to lead away from."""

    parts: tuple[Part, ...]
    negative: Part


@dataclass(frozen=True, slots=True)
class Timing:
    """How the steps written in a prompt are counted."""

    calls: int  # that the prompt's numbers refer to
    old: bool = False  # read them as A1111 before 1.6 did


def write_script(
    encoder: TextEncoder, prompt: str, negative: str, *, reading: Reading, timing: Timing
) -> Script:
    """Encode both prompts for every stage of the run; BadRequest when they are too long."""
    return Script(
        tuple(
            _part(encoder, part.text, part.weight, reading=reading, timing=timing)
            for part in parts(prompt)
        ),
        _part(encoder, negative, 1.0, reading=reading, timing=timing),
    )


def _part(
    encoder: TextEncoder, text: str, weight: float, *, reading: Reading, timing: Timing
) -> Part:
    stages = schedule(text, timing.calls, old=timing.old)
    texts = [stage.text for stage in stages]
    tokens = sum(encoder.chunks(one, reading)[1] for one in set(texts))
    if tokens > MAX_TOKENS:
        raise BadRequest(
            f"the prompt has {tokens:,} tokens, and {MAX_TOKENS:,} is the most",
            hint=f"Most models heed the first {ROOM} best.",
        )
    ends = tuple(stage.end for stage in stages)
    return Part(weight, ends, tuple(encoder.encode_group(texts, reading)))
