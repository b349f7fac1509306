"""Whether a LoRA file fits a checkpoint, and how; no torch, so that it is known at submission.

    fit(header, targets) -> Fit;  Fit.check() raises BadFile, with counts and the reason

All or nothing: every module that the file changes must be in the checkpoint, with a weight of that
shape, by an algorithm that runs here. What acts on nothing is let pass and told in `notes`:

- `alpha` of a module that has no other tensors;
- keys of no module at all, as long as there are others;
- the last layer of SD2's text encoder, which no SD2 checkpoint runs.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from darkroom.core.errors import BadFile, shorten
from darkroom.core.model import Arch
from darkroom.weights.header import Header
from darkroom.weights.layouts.entry import Component, Shape
from darkroom.weights.lora import algorithms, peft
from darkroom.weights.lora.algorithms import SCALARS
from darkroom.weights.lora.keys import Parts, sort_keys
from darkroom.weights.lora.names import Place, flat, meant
from darkroom.weights.lora.ordinals import orders
from darkroom.weights.lora.targets import Targets
from darkroom.weights.names import Names
from darkroom.weights.riders import full_size, lora_base

LAST_LAYER = re.compile(r"^lora_te1?_.*encoder_layers_23_|^text_encoder_.*encoder_layers_23_")
VECTORS: Mapping[str, Component] = {"clip_l": "text", "clip_g": "text_2"}
UNKNOWN = "`darkroom models show` says what is in a file."
HINT = "Choose a checkpoint of its family, or take it out of the prompt."
FULL = "Choose a full-size {} checkpoint with --model, or take it out of the prompt."
OF_ITS_FAMILY = "Take it out of the prompt; `darkroom models show` says what is in the file."


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One module that the file changes."""

    place: Place
    algorithm: str
    parts: Parts  # part -> key in the file
    shape: Shape  # of the module's weight
    scale: float | None = None  # where the metadata say it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a file fits a checkpoint."""

    name: str  # of the file
    arch: Arch  # of the checkpoint
    rows: tuple[Row, ...]
    faults: Mapping[str, str]  # module or key, as in the file -> why it cannot be used
    notes: tuple[str, ...]  # what has no effect, a sentence each
    embeddings: Mapping[str, Mapping[Component, str]]  # word -> encoder -> key
    encoders: tuple[Component, ...]  # of the checkpoint
    made_for: str  # the family, where it does not fit; "" if nothing tells it
    too_wide: bool = False  # the checkpoint is a small model, and the file for a full-size one

    @property
    def modules(self) -> tuple[Place, ...]:
        """The modules that are changed."""
        return tuple(row.place for row in self.rows)

    @property
    def counts(self) -> dict[str, int]:
        """Modules by algorithm."""
        return dict(Counter(row.algorithm for row in self.rows))

    def check(self) -> None:
        """BadFile if the file cannot act as a whole."""
        if self.faults:
            hint = OF_ITS_FAMILY if self._related else HINT
            hint = FULL.format(self.arch) if self._small else hint
            raise BadFile(f"{self.name} does not fit {self._what()}: {self._told()}", hint=hint)
        if not self.rows and not self.embeddings:
            raise BadFile(f"{self.name} holds no LoRA that we know", hint=UNKNOWN)

    @property
    def _related(self) -> bool:
        """Whether it was made for such checkpoints; of some files only "SD1 or SD2" is known."""
        return str(self.arch) in self.made_for.split(" or ")

    @property
    def _small(self) -> bool:
        """Whether its own family is refused for its size alone."""
        return self.too_wide and self._related

    def _what(self) -> str:
        named = str(self.arch)[0] == "S" and not self._small
        return f"an {self.arch} checkpoint" if named else "this checkpoint"

    def _told(self) -> str:
        total = len(self.faults) + len(self.rows)
        if self._small:
            made = f"it was made for full-size {self.made_for}, and this is a small model"
            return f"{made} of the same make ({len(self.faults)} of {total} modules do not fit)"
        first: dict[str, str] = {}
        for name, reason in self.faults.items():
            first.setdefault(reason, name)
        counts = Counter(self.faults.values()).most_common()
        told = [
            f"{count} of {total} modules {reason} (first: {shorten(first[reason], 90)})"
            for reason, count in counts
        ]
        if self.made_for and not self._related:
            told.append(f"it was made for {self.made_for}")
        return "; ".join(told)


def fit(header: Header, targets: Targets) -> Fit:
    """Match every key of a file with the modules of a checkpoint."""
    keys = sort_keys(header)
    work = _Matching(header, targets)
    for base, parts in keys.modules.items():
        work.named(base, parts)
    for component, pairs in keys.counted.items():
        work.counted(pairs, (component,))
    if keys.listed:
        work.counted(keys.listed, ("unet", "text"))
    for word, vectors in keys.embeddings.items():
        work.embedding(word, vectors)
    work.faults.update(keys.refused)
    work.unknown(keys.unknown)
    names = Names(header)
    return Fit(
        name=header.path.name,
        arch=targets.arch,
        rows=tuple(work.rows.values()),
        faults=work.faults,
        notes=tuple(work.notes()),
        embeddings=work.embeddings,
        encoders=targets.encoders,
        made_for=lora_base(names)[0] if work.faults else "",
        too_wide=bool(work.faults) and targets.small and full_size(names),
    )


class _Matching:
    """The work of `fit`: rows and faults as they are found."""

    def __init__(self, header: Header, targets: Targets) -> None:
        self._header, self._targets = header, targets
        self._told = peft.told(header.metadata)
        self._idle: list[str] = []  # keys and modules without effect
        self.rows: dict[Place, Row] = {}
        self.faults: dict[str, str] = {}
        self.embeddings: dict[str, dict[Component, str]] = {}

    def named(self, base: str, parts: Parts) -> None:
        """A module under a trainer's name."""
        place = self._targets.index.find(base)
        if parts.keys() <= SCALARS or (place is None and self._never_run(base)):
            self._idle.append(base)
        elif place is None:
            self.faults[base] = meant(base)
        else:
            self._add(place, base, parts)

    def counted(self, pairs: Mapping[int, Parts], components: Iterable[Component]) -> None:
        """Modules by number; the first of `components` that has as many is meant."""
        for component in components:
            for order in orders(self._targets.shapes, component):
                if pairs.keys() == set(range(len(order))):
                    for index, module in enumerate(order):
                        self._add((component, module), f"{component}:{index}", pairs[index])
                    return
        reason = f"are counted, {len(pairs)} of them, which is not how many such modules there are"
        self.faults.update({key: reason for pair in pairs.values() for key in pair.values()})

    def embedding(self, word: str, vectors: Mapping[str, str]) -> None:
        """Vectors for a word that the file brings along."""
        found: dict[Component, str] = {}
        for name, key in vectors.items():
            shape = self._header.tensors[key].shape
            encoder = self._encoder(name, shape)
            if encoder is None or len(shape) not in (1, 2) or 0 in shape:
                self.faults[key] = "are words for another text encoder"
            else:
                found[encoder] = key
        self.embeddings[word] = found

    def unknown(self, keys: Iterable[str]) -> None:
        """Keys that name no part of a LoRA: no harm beside one, unless a module is meant."""
        for key in keys:
            base, _, ending = key.rpartition(".")
            if self._targets.index.find(base) is not None:
                self.faults[key] = f"have a part that we do not know (.{shorten(ending, 20)})"
            elif self.rows or self.faults:
                self._idle.append(key)

    def notes(self) -> Iterator[str]:
        """What has no effect."""
        if self._idle:
            count, first = len(self._idle), shorten(self._idle[0], 90)
            yield f"{count} of its names have no effect here (first: {first})"

    def _add(self, place: Place, name: str, parts: Parts) -> None:
        shapes = {part: self._shape(key) for part, key in parts.items()}
        algorithm = algorithms.algorithm_of(frozenset(parts), shapes)
        weight = self._targets.shapes[place]
        if algorithm is None:
            self.faults[name] = f"are incomplete (they have {', '.join(sorted(parts))})"
        elif place in self.rows:
            self.faults[name] = "are there twice, under two names"
        elif reason := algorithms.fault(
            algorithm, shapes, weight, biased=place in self._targets.biased
        ):
            self.faults[name] = reason
        else:
            rank = shapes["down"][0] if "down" in shapes else 0
            scale = self._told.scale(name, rank) if rank else None
            self.rows[place] = Row(
                place=place, algorithm=algorithm.name, parts=parts, shape=weight, scale=scale
            )

    def _shape(self, key: str) -> Shape:
        return self._header.shape(key) or ()  # a number among the metadata has none

    def _encoder(self, name: str, shape: Shape) -> Component | None:
        """Which encoder vectors of that width are for."""
        wanted = VECTORS.get(name)
        for encoder in self._targets.encoders:
            if wanted in (None, encoder) and shape[-1:] == (self._targets.width(encoder),):
                return encoder
        return None

    def _never_run(self, base: str) -> bool:
        return self._targets.arch is Arch.SD2 and bool(LAST_LAYER.search(flat(base)))
