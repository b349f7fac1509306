"""What a prompt says in which step.

    schedule("a [cat:dog:5]", 20)   ->   ("a cat" up to step 5, "a dog" up to step 20)

A1111's rules for the number of an edit, `[a:b:n]`. With a point it is a share of the steps, without
one a step. In the second, high-resolution pass, shares count on from 1.0 and steps from the last of
the first pass; `steps` is the length of the first pass and `hires_steps` of the second, which is
the one that is told. The old rule, before A1111 1.6: below 1 it is a share, from 1 on a step, and
the second pass is like the first.
"""

from bisect import bisect_left
from math import lcm
from typing import NamedTuple

from darkroom.core.prompt.editing import NotGrammar, Reader
from darkroom.core.prompt.unfolding import Allowance, texts_at


class Stage(NamedTuple):
    """`text` holds up to and with step `end`, from 1."""

    end: int
    text: str


class _Rule(NamedTuple):
    """How the number of an edit becomes its last step."""

    steps: int
    first_pass: int = 0  # steps that are over already
    old: bool = False

    def end(self, text: str, value: float) -> int:
        """The last step before the change; 0 or less if it comes before the first."""
        if self.old:
            step = value * self.steps if value < 1 else value
        elif "." in text:
            step = (value - bool(self.first_pass)) * self.steps
        else:
            step = value - self.first_pass
        return int(max(0.0, min(step, self.steps)))


def schedule(
    text: str,
    steps: int,
    *,
    hires_steps: int | None = None,
    old: bool = False,
    allowance: Allowance | None = None,
) -> tuple[Stage, ...]:
    """The stages of `text`, in order; the last ends with the last step.

    BadRequest where the stages would fill the memory or take for ever, such as a text of megabytes
    that is another one in every step: beyond `allowance`, which the parts of a prompt may share.
    """
    if hires_steps is None or old:
        rule = _Rule(steps, old=old)
    else:
        rule = _Rule(hires_steps, first_pass=steps)
    if "[" not in text or "]" not in text:
        return (Stage(rule.steps, text),)
    reader = Reader(rule.end)
    try:
        nodes = reader.read(text)
    except NotGrammar:
        return (Stage(rule.steps, text),)
    edits = sorted(reader.ends)
    ends = range(1, rule.steps + 1) if reader.cycles else sorted({*edits, rule.steps} - {0})
    period = lcm(*reader.cycles)  # steps after which all cycles begin again
    # In steps of one state all edits and cycles are equal; the first stands for them.
    states = [(bisect_left(edits, end), end % period) for end in ends]
    firsts: dict[tuple[int, int], int] = {}
    for state, end in zip(states, ends, strict=True):
        firsts.setdefault(state, end)
    found = texts_at(nodes, list(firsts.values()), allowance or Allowance())
    texts = dict(zip(firsts, found, strict=True))
    return tuple(Stage(end, texts[state]) for end, state in zip(ends, states, strict=True))
