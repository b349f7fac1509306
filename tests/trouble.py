"""Trouble for a worker, at a place of our choosing.

trouble = Trouble("memory once", at=3)           at the fourth place that the run comes by
now = arranged(monkeypatch, unet_class)          now[0] is what happens from then on
trouble.trail -> ["encode", "network 8x8", "keep", …]       the places that it came by
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from darkroom.core.errors import BadFile
from darkroom.engine import engine, loading, restorer
from darkroom.engine.caption.starter import Sight
from darkroom.engine.compact import Compact
from darkroom.engine.detect import Found
from darkroom.engine.detect.objects import Objects
from darkroom.engine.rrdb import Rrdb
from darkroom.jobs.manifest import Seldom
from darkroom.media import files
from darkroom.tasks import cutout

NUMBERS = ("network", "encode", "decode", "tile", "face", "sight")  # places that give numbers
LOADED = ("load", "upscaler")
DISK = ("keep", "save", "name", "store")
ONLY = {"nan": NUMBERS, "memory": (*NUMBERS, *LOADED), "disk": DISK}  # by a fault's first word

FAULTS = (
    "memory once", "memory always", "nan once", "nan always", "disk full",
    "cancelled", "closed", "interrupted", "ours", "mistake",
)  # fmt: skip


@dataclass
class Trouble:
    """What goes wrong in a run, and where."""

    kind: str = ""
    at: int = -1
    trail: list[str] = field(default_factory=list)
    kept: int = 0  # latents that were put on the disk

    @property
    def here(self):
        """Whether the run has come so far."""
        return 0 <= self.at < len(self.trail)

    def passed(self, label, go):
        """What `go` gives at a place, or what goes wrong instead."""
        number = len(self.trail)
        self.trail.append(label)
        again = self.kind.endswith("always") and self.here and label == self.trail[self.at]
        result = self._wrong(go) if number == self.at or again else go()
        self.kept += label == "keep"
        return result

    def _wrong(self, go):
        match self.kind.split()[0]:
            case "memory":
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            case "interrupted":
                raise KeyboardInterrupt
            case "disk":
                raise OSError(28, "No space left on device")
            case "ours":
                raise BadFile("a file is no file", hint="Take another.")
            case "mistake":
                raise RuntimeError("the program is wrong")
            case "nan":
                return broken(go())
        return go()


def broken(numbers):
    """Tensors, or what holds some, with NaN for every number."""
    match numbers:
        case tuple():
            return tuple(map(broken, numbers))
        case dict():
            return {name: broken(own) for name, own in numbers.items()}
    return numbers * float("nan")


def places_of(trail, fault):
    """Where on a trail a fault may happen: the first and the last time that it comes by a place."""
    fits = ONLY.get(fault.split()[0])
    ends = {}
    for number, label in enumerate(trail):
        if fits is None or label.split()[0] in fits:
            ends[label] = (*ends.get(label, ())[:1], number)
    return sorted({number for both in ends.values() for number in both})


def label_of_network(_unet, x, *_args, **_more):
    return f"network {x.shape[-1]}x{x.shape[-2]}"


def label_of_file(*, dir, **_names):
    return (
        "keep" if dir.parent.name == "unfinished" else "store" if dir.name == "inputs" else "save"
    )


class Mender(nn.Module):
    """Stands in for a network that mends faces: it inverts them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return (-x * self.weight,)


def mender(_card, device):
    return restorer.Restorer(Mender(), device, faithful=False, size=4)


def found(_self, picture, *, confidence):
    """Stands in for a detector: there is always something in the middle."""
    width, height = picture.size
    return [Found(box=(width / 4, height / 4, 40, 40), score=confidence, label="object")]


def arranged(monkeypatch, unet):
    """Let every place ask the first of a list what happens there; `unet` is the network's class."""
    now = [Trouble()]

    def arrange(owner, name, label):
        real = getattr(owner, name)

        def asked(*args, **more):
            told = label if isinstance(label, str) else label(*args, **more)
            return now[0].passed(told, lambda: real(*args, **more))

        monkeypatch.setattr(owner, name, asked)

    monkeypatch.setattr(engine, "load_restorer", mender)
    monkeypatch.setattr(Objects, "find", found)
    monkeypatch.setattr(Seldom, "due", lambda _self: True)  # the same places in every run
    for place in (
        (unet, "forward", label_of_network),
        (engine, "encode", "encode"),
        (engine, "decode", "decode"),
        (engine, "load_upscaler", "upscaler"),
        (loading, "load_networks", "load"),
        (Rrdb, "forward", "tile"),
        (Compact, "forward", "tile"),
        (Mender, "forward", "face"),
        (Sight, "forward", "sight"),
        (Objects, "find", "detect"),
        (cutout, "cut_of", "cut"),
        (files.tempfile, "mkstemp", label_of_file),
        (files.os, "link", "name"),
    ):
        arrange(*place)
    return now
