"""What a LoRA can act on: every module with a weight in the networks of a checkpoint; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from darkroom.core.model import Arch
from darkroom.weights.detect import Detected
from darkroom.weights.layouts import ldm_unet
from darkroom.weights.layouts.entry import Component, Shape
from darkroom.weights.lora.names import Index, Place
from darkroom.weights.riders import FULL_WIDTH

__all__ = ["ENCODERS", "Place", "Targets", "targets_of"]

COMPONENTS: tuple[Component, ...] = ("unet", "text", "text_2")
ENCODERS: tuple[Component, ...] = COMPONENTS[1:]  # in the order in which a prompt's parts are kept
TOKENS = "embeddings.token_embedding"


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The modules of one checkpoint and the names that files have for them."""

    arch: Arch
    shapes: Mapping[Place, Shape]  # of each module's weight
    biased: frozenset[Place] = frozenset()  # the modules that have a bias
    ldm: Mapping[str, str] = field(default_factory=dict)  # LDM name -> name, of the UNet's modules

    @cached_property
    def index(self) -> Index:
        """Every name of a module -> the module; made once."""
        return Index(self.shapes, self.ldm)

    @property
    def encoders(self) -> tuple[Component, ...]:
        """The text encoders, in order."""
        return tuple(part for part in ENCODERS if any(place[0] == part for place in self.shapes))

    @property
    def small(self) -> bool:
        """Whether the UNet is narrower than any that LoRAs are published for."""
        shape = self.shapes.get(("unet", "conv_in"))
        return shape is not None and shape[0] < FULL_WIDTH

    @property
    def contexts(self) -> frozenset[int]:
        """The widths that attention in the UNet reads, of pictures and of text."""
        keys = (
            shape
            for (part, module), shape in self.shapes.items()
            if part == "unet" and module.endswith(".to_k")
        )
        return frozenset(shape[-1] for shape in keys)

    def width(self, encoder: Component) -> int | None:
        """Of the vectors that a text encoder has for its tokens."""
        shape = self.shapes.get((encoder, TOKENS))
        return None if shape is None else shape[-1]


def targets_of(detected: Detected) -> Targets:
    """The modules of a detected checkpoint, whatever form its file has."""
    rows = [
        (part, *_split(row.target), row.shape)
        for part in COMPONENTS
        for row in detected.layout.get(part, ())
    ]
    return Targets(
        arch=detected.arch,
        shapes={(part, name): shape for part, name, kind, shape in rows if kind == "weight"},
        biased=frozenset((part, name) for part, name, kind, _ in rows if kind == "bias"),
        ldm={_split(row.source)[0]: _split(row.target)[0] for row in ldm_unet.unet(detected.unet)},
    )


def _split(tensor: str) -> tuple[str, str]:
    """Module and parameter: ("conv_in", "weight")."""
    module, _, parameter = tensor.rpartition(".")
    return module, parameter
