"""`<lora:name:0.8>` and its like: which extra networks to load, and how strong."""

import re
from dataclasses import dataclass

_TAG = re.compile(r"<(\w+):([^>]+)>")


@dataclass(frozen=True, slots=True)
class Network:
    """`<kind:item:item…>`; an item with one `=` is named, the others count by position."""

    kind: str
    items: tuple[str, ...]

    @property
    def name(self) -> str:
        """What to load; empty if all items are named."""
        return next(iter(self.positional), "")

    @property
    def positional(self) -> tuple[str, ...]:
        """The items without a name, the network's own first."""
        return tuple(item for item in self.items if item.count("=") != 1)

    @property
    def named(self) -> dict[str, str]:
        """The items with one; the last of a name counts."""
        return dict(item.split("=") for item in self.items if item.count("=") == 1)


def networks(text: str) -> tuple[str, tuple[Network, ...]]:
    """`text` without its tags, and the networks they name, in order."""
    end = text.rfind(">") + 1  # behind it, `[^>]+` would run to the end from every "<"
    found = _TAG.findall(text, 0, end)
    if not found:
        return text, ()
    named = tuple(Network(kind, tuple(items.split(":"))) for kind, items in found)
    return _TAG.sub("", text[:end]) + text[end:], named
