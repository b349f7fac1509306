"""The model files in the folders, by what they may be called; nothing is opened.

A model is a file with one of `SUFFIXES`, or a diffusers folder: one with a `model_index.json`, or
a component with its `config.json`. What lies inside such a folder is no model of its own.

Two models can want one name only if their keys are equal, so a name is looked up among the few
models of its key, whatever the number of the others.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from darkroom.library.folders import KINDS
from darkroom.library.walk import Folder, folders_below

SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
"""The first has the first claim to a name."""

VAE_ENDS = (".vae.safetensors", ".vae.sft", ".vae.ckpt", ".vae.pt", ".vae.bin")
"""Of a VAE that a checkpoint called the same takes; the first goes before the others."""

PIPELINE, COMPONENT = "model_index.json", "config.json"
TAGGER = {"model.onnx", "selected_tags.csv"}  # a network in ONNX form, with its words
_WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)([.-].*)?\.(safetensors|bin)", re.ASCII
)
_CACHE = re.compile(r"(?:.*/)?models--([^/]+?)--([^/]+)/snapshots/[0-9a-f]{7,64}(?=/|$)")
_TITLE = re.compile(r" \[([0-9a-f]{8,64})\]$", re.I)
_NUMBER = re.compile(r" \(\d+\)$")


@dataclass(frozen=True, slots=True)
class Item:
    """One model that is there."""

    path: str
    top: str  # the folder that was asked for
    beside: frozenset[str] = frozenset()  # names of the files next to it: no models, or VAEs
    is_folder: bool = False

    @property
    def stem(self) -> str:
        """Its file name without the suffix."""
        name = self.path.rpartition(os.sep)[2]
        return name if self.is_folder else split(name)[0]

    def names(self) -> Iterator[str]:
        """Names for it, best first and without end. Each is text, as recipes need it."""
        full = (self.path[len(self.top) :] or self.path).replace(os.sep, "/").lstrip("/")
        short, suffix = (full, "") if self.is_folder else split(full)
        kind, _, rest = short.partition("/")
        first = rest if rest and kind.casefold() in KINDS else short
        if self.is_folder and (cached := _CACHE.match(short)):
            yield text(f"{cached[1]}/{cached[2]}{short[cached.end() :]}")
        yield text(first)
        if suffix and self.rank:
            yield text(first + suffix)
        place = Path(self.top).absolute().name
        names = (short, f"{place}/{short}", f"{place}/{full}", str(Path(self.path).absolute()))
        numbered = (f"{first} ({number})" for number in count(2))  # of names that are no text
        yield from map(text, chain(names, numbered))

    @property
    def rank(self) -> int:
        """Its place among those that claim one name."""
        return 0 if self.is_folder else SUFFIXES.index(split(self.path)[1].lower())


@dataclass(frozen=True, slots=True)
class Survey:
    """Every model that is there, by its key, and the folders that cannot be looked into."""

    items: dict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[str, OSError] = field(default_factory=dict)
    folders: dict[str, Folder] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        """Put a model to those of its key."""
        self.items[key(next(item.names())) if item.is_folder else key(item.path)].append(item)

    def called(self, name: str) -> Sequence[Item]:
        """The models that may be called so, those with the better claim first."""
        return sorted(self.items.get(key(name), ()), key=lambda item: item.rank)

    def all(self) -> Iterator[Item]:
        """Every model."""
        return chain.from_iterable(self.items.values())


def survey(tops: Iterable[Path], known: dict[str, Folder]) -> Survey:
    """Look into `tops` and below; listings in `known` are taken where they are still true."""
    found = Survey()
    seen: set[tuple[int, int]] = set()
    for top in tops:
        for folder in folders_below(top, known, found.errors, seen=seen, enter=_enter):
            found.folders[folder.path] = folder
            for item in _models(str(top), folder, found.folders):
                found.add(item)
    return found


def _models(top: str, folder: Folder, listed: dict[str, Folder]) -> Iterator[Item]:
    if _is_model(folder):
        above = listed.get(folder.path.rpartition(os.sep)[0])
        yield Item(folder.path, top, above.files if above else frozenset(), is_folder=True)
    files = sorted(name for name in folder.files if name.lower().endswith(SUFFIXES))
    beside = folder.files.difference(name for name in files if not name.endswith(VAE_ENDS))
    for name in files:
        if not _is_part(folder, name):
            yield Item(f"{folder.path}{os.sep}{name}", top, beside)


def _enter(folder: Folder) -> Sequence[str]:
    """The folders in a folder that may hold models of their own: not those of a pipeline."""
    return () if _is_model(folder) else folder.below


def _is_model(folder: Folder) -> bool:
    if PIPELINE in folder.files or folder.files >= TAGGER:
        return True
    return COMPONENT in folder.files and any(map(_WEIGHTS.fullmatch, folder.files))


def _is_part(folder: Folder, name: str) -> bool:
    """Whether a file is the weights of the component, or of the tagger, that its folder is."""
    if name in TAGGER and folder.files >= TAGGER:
        return True
    return COMPONENT in folder.files and _WEIGHTS.fullmatch(name) is not None


def split(name: str) -> tuple[str, str]:
    """A file's name without its suffix, and the suffix, if it is a model's."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if dot > 0 and name[dot:].lower() in SUFFIXES else (name, "")


def hash_in(name: str) -> str:
    """The hash at the end of a title as A1111 writes it, `anime/ink.ckpt [885f6d3daf]`; or ""."""
    found = _TITLE.search(name)
    return found[1] if found else ""


def plainer(name: str) -> Iterator[str]:
    """What a name is without what other programs write around it, the most exact first.

    That is the hash of a title and then its extension, or the name of a folder of one kind.
    """
    kind, _, rest = name.replace("\\", "/").partition("/")
    if hash_in(name):
        yield (title := _TITLE.sub("", name))
        yield split(title)[0]
    elif rest and kind.casefold() in KINDS | {"models"}:
        yield rest


def key(name: str) -> str:
    """What is equal for all models that could be called `name`."""
    last = name[max(name.rfind("/"), name.rfind("\\")) + 1 :]
    while (shorter := split(last)[0]) != last:
        last = shorter
    return _NUMBER.sub("", text(last)).casefold()


def text(name: str) -> str:
    """`name` as text, also where the system's name is none."""
    if name.isascii():
        return name
    try:
        return os.fsencode(name).decode(errors="replace")
    except UnicodeEncodeError:  # no system has such a name; a request may
        return name.encode(errors="replace").decode()
