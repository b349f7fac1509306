"""Modules by number, as the first LoRA program for diffusion (cloneofsimo's) kept them; no torch.

Its files name no modules: they count the linear layers in the order in which diffusers 0.11 made
them. That is down, up and then middle blocks, and in a transformer block both attentions with the
first half of the feed-forward net between them, if that was trained at all.
"""

import re
from collections.abc import Iterable

from darkroom.weights.layouts.entry import Component
from darkroom.weights.lora.names import Place

BLOCKS = ("down_blocks", "up_blocks", "mid_block")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = "ff.net.0.proj"
TEXT = ("k_proj", "v_proj", "q_proj", "out_proj")


def orders(places: Iterable[Place], component: Component) -> list[tuple[str, ...]]:
    """The orders in which a file may count the modules of a network; each of another length."""
    modules = [module for part, module in places if part == component]
    first, second = ([f"{name}.{part}" for part in ATTENTION] for name in ("attn1", "attn2"))
    if component == "unet":
        blocks = _owners(modules, ".attn1.to_q")
        inner = [[*first, FEED_FORWARD, *second], [*first, *second]]
    else:
        blocks = _owners(modules, ".self_attn.q_proj")
        inner = [[f"self_attn.{part}" for part in TEXT]]
    return [tuple(f"{block}.{name}" for block in blocks for name in names) for names in inner]


def _owners(modules: Iterable[str], ending: str) -> list[str]:
    """The blocks that have a module of that ending, in the order of their making."""
    return sorted(
        (name.removesuffix(ending) for name in modules if name.endswith(ending)), key=_age
    )


def _age(block: str) -> tuple[int, ...]:
    top = block.partition(".")[0]
    rank = BLOCKS.index(top) if top in BLOCKS else 0
    return rank, *(int(number) for number in re.findall(r"\d+", block))
