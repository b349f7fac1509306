"""What is known of one model file without its weights: from its header and the files beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from darkroom.core.model import Arch, Kind, Prediction, Variant
from darkroom.library.hashes import Hashes

EITHER = " or "  # between two families


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a file says about itself and its sidecars say about it; kept in the index."""

    kind: Kind = Kind.UNKNOWN
    arch: Arch = Arch.OTHER
    label: str = ""  # "an SDXL checkpoint"
    variant: Variant = Variant.BASE
    prediction: Prediction = Prediction.EPS
    zero_snr: bool = False
    native_size: int = 0  # pixels; 0: says nothing
    bytes: int = 0
    precision: str = ""  # "fp16", "mixed"
    components: tuple[str, ...] = ()
    distilled: str = ""  # "Turbo", "Lightning" …
    distilled_by: str = ""  # what tells so: "tensors", "metadata" or "name"
    base_model: str = ""  # what it was made for or from
    dialect: str = ""  # of a LoRA: whose names it has
    rank: str = ""  # of a LoRA: "16", "4 to 64"
    ema: bool = False  # holds averaged weights too
    title: str = ""
    author: str = ""
    licence: str = ""
    alias: str = ""  # the name it was trained under
    description: str = ""
    notes: str = ""
    negative: str = ""  # what its user puts into negative prompts with it
    weight: float = 0  # preferred strength of a LoRA; 0: says nothing
    triggers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    recommended: Mapping[str, float | str] = field(default_factory=dict)
    trained_as: tuple[str, ...] = ()  # the AutoV3 it had when it was trained
    claimed: tuple[str, ...] = ()  # hashes that it should have, as it and its sidecars say
    preview: str = ""  # path of a picture
    sidecars: tuple[str, ...] = ()  # names of the files beside it that were read
    problem: str = ""  # why it cannot be used
    problems: tuple[str, ...] = ()  # what is odd about it

    @property
    def troubled(self) -> bool:
        """Whether there is anything to say against the file."""
        return bool(self.problem or self.problems)

    @property
    def families(self) -> str:
        """The family that it is for, or both where nothing tells which: "SD1 or SD2"."""
        told = self.label.rpartition(" for ")[2]
        return told if self.arch is Arch.OTHER and EITHER in told else self.arch.value

    def words(self) -> str:
        """The text that a search looks through."""
        told = (self.title, self.alias, self.label, self.base_model, self.distilled, self.author)
        more = (*self.triggers, *self.tags, *self.claimed, *self.trained_as)
        return "\n".join((*told, *more, self.description, self.notes))

    def to_json(self) -> str:
        """As the index keeps it: what is not at its default, in ASCII."""
        values = ((each, getattr(self, each.name)) for each in fields(self))
        return json.dumps({each.name: value for each, value in values if value != each.default})

    @staticmethod
    def of_json(told: str) -> "Facts | None":
        """What `to_json` wrote; None if another version of Darkroom did."""
        try:
            found = json.loads(told)
            return Facts(**{name: _restored(name, value) for name, value in found.items()})
        except (ValueError, TypeError, AttributeError):
            return None


_ENUMS = {"kind": Kind, "arch": Arch, "variant": Variant, "prediction": Prediction}


def _restored(name: str, value: Any) -> Any:
    if name in _ENUMS:
        return _ENUMS[name](value)
    return tuple(value) if isinstance(value, list) else value


UNHASHED = Hashes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A listed model: its name here, where it lies, and what is known of it."""

    name: str
    path: Path
    facts: Facts
    hashes: Hashes = UNHASHED  # as far as they are known without reading the file

    @property
    def kind(self) -> Kind:
        """What it is used as."""
        return self.facts.kind

    @property
    def problem(self) -> str:
        """Why it cannot be used; "" if it can."""
        return self.facts.problem

    @property
    def usable(self) -> bool:
        """Whether pictures can be made with it, as a checkpoint."""
        return self.facts.kind is Kind.CHECKPOINT and not self.facts.problem
