"""The prompt grammar: text in, plain data out; nothing here knows a network, a token or a tensor.

    template ─ expand ─► prompt ─ apply_styles, without_comments, networks ─► text
    text ─ parts ─► [Part] ─ schedule ─► [Stage] ─ attention ─► [Piece]

Every function takes any text and reads it in a time linear in its length. What it says in the steps
can be longer by as much as there are steps, so `schedule` has an `Allowance` and refuses what costs
more. What A1111 would crash on, and what is no grammar, is literal text. Prompts of ComfyUI and
InvokeAI become ours first (`DIALECTS`).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from darkroom.core.prompt.attention import Break, Piece, attention, merged
from darkroom.core.prompt.comfyui import comfyui_pieces, from_comfyui
from darkroom.core.prompt.comments import without_comments
from darkroom.core.prompt.composition import Part, parts
from darkroom.core.prompt.dynamic import Expanded, expand, wildcard_names
from darkroom.core.prompt.invokeai import from_invokeai
from darkroom.core.prompt.networks import (
    Network,
    Role,
    Wish,
    networks,
    renamed,
    reworded,
    unread,
    wishes,
)
from darkroom.core.prompt.render import render
from darkroom.core.prompt.schedule import Stage, schedule
from darkroom.core.prompt.styles import (
    Style,
    apply_styles,
    find_styles,
    read_styles,
    read_styles_file,
)
from darkroom.core.prompt.unfolding import Allowance
from darkroom.core.prompt.wildcards import Wildcards

DIALECTS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"a1111": str, "comfyui": from_comfyui, "invokeai": from_invokeai}
)
"""Functions that make a prompt of ours of a prompt for another program."""

__all__ = [
    "DIALECTS",
    "Allowance",
    "Break",
    "Expanded",
    "Network",
    "Part",
    "Piece",
    "Role",
    "Stage",
    "Style",
    "Wildcards",
    "Wish",
    "apply_styles",
    "attention",
    "comfyui_pieces",
    "expand",
    "find_styles",
    "from_comfyui",
    "from_invokeai",
    "merged",
    "networks",
    "parts",
    "read_styles",
    "read_styles_file",
    "renamed",
    "render",
    "reworded",
    "schedule",
    "unread",
    "wildcard_names",
    "wishes",
    "without_comments",
]
