"""What the table of a hypernetwork file says: its layers, and which models they are for; no torch.

widths_of(header) -> (320, 768)          of context; () where the file is none
check_widths(name, widths, contexts)     BadFile unless a model of these contexts can use it
"""

import re
from collections.abc import Collection, Mapping

from darkroom.core.errors import BadFile
from darkroom.weights.header import Header

IN_EVERY_FAMILY = frozenset((320, 640, 1280))  # contexts of pictures, not of text

Side = tuple[int, int]  # width of context; 0 for keys, 1 for values
Places = Mapping[int, Mapping[str, str]]  # place in the network -> weight or bias -> tensor

_NAME = re.compile(r"(\d{1,5})\.([01])\.linear\.?(\d{1,3})\.(weight|bias)")


def layers_of(header: Header) -> Mapping[Side, Places]:
    """The names of a file's tensors by what they are; empty where it is no hypernetwork."""
    found: dict[Side, dict[int, dict[str, str]]] = {}
    for name in header.tensors:
        if match := _NAME.fullmatch(name):
            places = found.setdefault((int(match[1]), int(match[2])), {})
            places.setdefault(int(match[3]), {})[match[4]] = name
    return found


def widths_of(header: Header) -> tuple[int, ...]:
    """The widths of context that a file is for, rising; () where it is no hypernetwork."""
    return tuple(sorted({width for width, _ in layers_of(header)}))


def check_widths(name: str, widths: Collection[int], contexts: Collection[int]) -> None:
    """BadFile unless the hypernetwork `name` is for a text as wide as a model's.

    Pictures are 320, 640 and 1280 wide in every family; one that is for these alone fits if all
    of them occur.
    """
    texts, there = set(widths) - IN_EVERY_FAMILY, set(contexts)
    fits = bool(texts & there) if texts else set(widths) <= there
    if not fits:
        told = " or ".join(map(str, sorted((texts or set(widths)) - there)))
        family, hint = "", "Leave it out, or choose a model of the family it was trained for."
        if 768 in widths and max(there, default=768) < min(IN_EVERY_FAMILY):
            family = "was made for full-size SD1, and this is a small model of the same make: it "
            hint = "Leave it out, or choose a full-size SD1 checkpoint with --model."
        raise BadFile(
            f"the hypernetwork {name!r} {family}is for contexts {told} wide; this model has none",
            hint=hint,
        )
