"""What the nodes of a prompt say in each step, without looking at all of them in every step."""

from collections.abc import Iterable, Iterator, Sequence

from darkroom.core.errors import BadRequest
from darkroom.core.prompt.editing import Edit, Node

MAX_WORK = 16_000_000  # characters of all different texts of one prompt, and its nodes
NODE = 4  # characters that take as long as a look at one node


class Allowance:
    """What the stages of one prompt may still cost; its parts share one."""

    def __init__(self, work: int = MAX_WORK) -> None:
        self._left = work

    def spend(self, work: int) -> None:
        """Take `work` away; BadRequest if it is not there."""
        self._left -= work
        if self._left < 0:
            raise BadRequest(
                "the prompt is too long to change this often",
                hint="Shorten it, or take out some of its [a|b] and [a:b:n].",
            )


def texts_at(nodes: list[Node], steps: Sequence[int], allowance: Allowance) -> list[str]:
    """What `nodes` say in each of `steps`, which rise; BadRequest where that costs too much.

    The steps are halved until nothing changes in between. What stands still within a half is joined
    once for all of it, so an edit is looked at log2(steps) times. Cycles change in every step.
    """
    texts: list[str] = []
    waiting = [(nodes, steps)]
    while waiting:
        nodes, steps = waiting.pop()
        nodes = list(_settled(nodes, steps[0], steps[-1], allowance=allowance))
        if len(nodes) == 1 and isinstance(text := nodes[0], str):
            allowance.spend(len(text))
            texts += [text] * len(steps)
            continue
        size = len(steps) // 2 if any(isinstance(node, Edit) for node in nodes) else 1
        cuts = [steps[:size], steps[size:]] if size > 1 else [[step] for step in steps]
        waiting += [(nodes, cut) for cut in reversed(cuts)]
    return texts


def _settled(
    nodes: Iterable[Node], first: int, last: int, *, allowance: Allowance
) -> Iterator[Node]:
    """`nodes` as they are from step `first` to `last`; what says the same in all is joined."""
    words: list[str] = []
    open_: list[Iterator[Node]] = [iter(nodes)]
    while open_:
        work = 0
        for node in open_[-1]:
            work += NODE
            now = node if isinstance(node, str) else node.between(first, last)
            if isinstance(now, str):
                words.append(now)
            elif isinstance(now, list):
                open_.append(iter(now))
                break
            else:
                if words:
                    yield "".join(words)
                    words.clear()
                yield now
        else:
            open_.pop()
        allowance.spend(work)
    yield "".join(words)
