"""Detectors as Ultralytics saves them: whole Python objects in a pickle, here of stub classes.

save_yolo(path, masks=False, classes=1, v11=False) -> the state as {name: tensor}

The classes have the names of the true ones while they are pickled, and nothing else of them. Widths
are small; names, shapes and the order of layers are those of yolov8n and yolo11n.
"""

import sys
import types
from contextlib import contextmanager

import torch
from torch import nn

CLASSES = (
    "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.nn.modules.conv.Conv",
    "ultralytics.nn.modules.block.Block",
    "ultralytics.nn.modules.head.Detect",
)
WIDTH = 8  # of the first layer; the true ones have 16 and more


@contextmanager
def ultralytics():
    """Modules of that name, as long as something is pickled."""
    made, kinds = {}, {}
    for full in CLASSES:
        module, _, name = full.rpartition(".")
        for depth in range(1, module.count(".") + 2):
            part = ".".join(module.split(".")[:depth])
            made.setdefault(part, types.ModuleType(part))
        kind = type(name, (nn.Module,), {"__module__": module, "forward": method_of(module, name)})
        setattr(made[module], name, kind)
        kinds[name] = kind
    sys.modules.update(made)
    try:
        yield kinds
    finally:
        for name in made:
            del sys.modules[name]


def method_of(module, name):
    def forward(self, x):
        raise AssertionError("nothing is run")

    forward.__module__, forward.__qualname__ = module, f"{name}.forward"
    return forward


class Maker:
    """The modules of a detector, of the classes that `kinds` has."""

    def __init__(self, kinds, seed):
        self.kinds = kinds
        self.random = torch.Generator().manual_seed(seed)

    def conv(self, c1, c2, k=1, groups=1):
        made = self.kinds["Conv"]()
        made.conv = nn.Conv2d(c1, c2, k, groups=groups, bias=False)
        made.bn = nn.BatchNorm2d(c2)
        made.act = nn.SiLU()
        made.conv.weight.data.normal_(0, (2 / (k * k * c1 / groups)) ** 0.5, generator=self.random)
        made.bn.weight.data.uniform_(0.8, 1.2, generator=self.random)
        made.bn.bias.data.normal_(0, 0.1, generator=self.random)
        made.bn.running_mean.normal_(0, 0.1, generator=self.random)
        made.bn.running_var.uniform_(0.7, 1.3, generator=self.random)
        return made

    def plain(self, c1, c2):
        made = nn.Conv2d(c1, c2, 1)
        made.weight.data.normal_(0, c1**-0.5, generator=self.random)
        made.bias.data.normal_(0, 0.1, generator=self.random)
        return made

    def block(self, **parts):
        made = self.kinds["Block"]()
        for name, part in parts.items():
            setattr(made, name, part)
        return made

    def bottleneck(self, c, inner=None):
        inner = inner or c
        return self.block(cv1=self.conv(c, inner, 3), cv2=self.conv(inner, c, 3))

    def c2f(self, c1, c2):
        half = c2 // 2
        m = nn.ModuleList([self.bottleneck(half)])
        return self.block(cv1=self.conv(c1, 2 * half), cv2=self.conv(3 * half, c2), m=m)

    def c3k2(self, c1, c2, *, deep):
        half = c2 // 2
        inner = half // 2
        if deep:
            m = self.block(
                cv1=self.conv(half, inner), cv2=self.conv(half, inner), cv3=self.conv(2 * inner, half),
                m=nn.Sequential(self.bottleneck(inner), self.bottleneck(inner)),
            )  # fmt: skip
        else:
            m = self.bottleneck(half, inner)
        return self.block(
            cv1=self.conv(c1, 2 * half), cv2=self.conv(3 * half, c2), m=nn.ModuleList([m])
        )

    def sppf(self, c):
        return self.block(cv1=self.conv(c, c // 2), cv2=self.conv(2 * c, c))

    def c2psa(self, c):
        half = c // 2
        attn = self.block(
            qkv=self.conv(half, 2 * half),
            proj=self.conv(half, half),
            pe=self.conv(half, half, 3, half),
        )
        ffn = nn.Sequential(self.conv(half, 2 * half), self.conv(2 * half, half))
        m = nn.Sequential(self.block(attn=attn, ffn=ffn))
        return self.block(cv1=self.conv(c, c), cv2=self.conv(c, c), m=m)

    def head(self, widths, classes, *, masks, v11):
        made = self.kinds["Detect"]()

        def stem(c, out):
            return nn.Sequential(self.conv(c, 16, 3), self.conv(16, 16, 3), self.plain(16, out))

        def light(c, out):
            return nn.Sequential(
                nn.Sequential(self.conv(c, c, 3, c), self.conv(c, 16)),
                nn.Sequential(self.conv(16, 16, 3, 16), self.conv(16, 16)),
                self.plain(16, out),
            )

        made.cv2 = nn.ModuleList([stem(c, 64) for c in widths])
        made.cv3 = nn.ModuleList([(light if v11 else stem)(c, classes) for c in widths])
        if masks:
            made.proto = self.block(
                cv1=self.conv(widths[0], 16, 3), upsample=nn.ConvTranspose2d(16, 16, 2, 2),
                cv2=self.conv(16, 16, 3), cv3=self.conv(16, 8),
            )  # fmt: skip
            made.cv4 = nn.ModuleList([stem(c, 8) for c in widths])
        made.dfl = self.block(conv=nn.Conv2d(16, 1, 1, bias=False))
        return made

    def v8(self, classes, masks):
        w = [WIDTH * n for n in (1, 2, 4, 8, 16)]
        empty = self.block
        return [
            self.conv(3, w[0], 3), self.conv(w[0], w[1], 3), self.c2f(w[1], w[1]),
            self.conv(w[1], w[2], 3), self.c2f(w[2], w[2]), self.conv(w[2], w[3], 3),
            self.c2f(w[3], w[3]), self.conv(w[3], w[4], 3), self.c2f(w[4], w[4]), self.sppf(w[4]),
            empty(), empty(), self.c2f(w[4] + w[3], w[3]), empty(), empty(),
            self.c2f(w[3] + w[2], w[2]), self.conv(w[2], w[2], 3), empty(),
            self.c2f(w[2] + w[3], w[3]), self.conv(w[3], w[3], 3), empty(),
            self.c2f(w[3] + w[4], w[4]),
            self.head(w[2:], classes, masks=masks, v11=False),
        ]  # fmt: skip

    def v11(self, classes, masks):
        w = [WIDTH * n for n in (1, 2, 4, 8, 16)]
        empty = self.block
        return [
            self.conv(3, w[0], 3), self.conv(w[0], w[1], 3), self.c3k2(w[1], w[2], deep=False),
            self.conv(w[2], w[2], 3), self.c3k2(w[2], w[3], deep=False), self.conv(w[3], w[3], 3),
            self.c3k2(w[3], w[3], deep=True), self.conv(w[3], w[4], 3),
            self.c3k2(w[4], w[4], deep=True), self.sppf(w[4]), self.c2psa(w[4]),
            empty(), empty(), self.c3k2(w[4] + w[3], w[3], deep=False), empty(), empty(),
            self.c3k2(w[3] + w[3], w[2], deep=False), self.conv(w[2], w[2], 3), empty(),
            self.c3k2(w[2] + w[3], w[3], deep=False), self.conv(w[3], w[3], 3), empty(),
            self.c3k2(w[3] + w[4], w[4], deep=True),
            self.head(w[2:], classes, masks=masks, v11=True),
        ]  # fmt: skip


def save_yolo(path, *, masks=False, classes=1, v11=False, seed=0, averaged=False, method=False):
    """`averaged` saves what training keeps; `method` a method of a class, as old files have it."""
    with ultralytics() as kinds:
        maker = Maker(kinds, seed)
        model = kinds["DetectionModel"]()
        layers = (maker.v11 if v11 else maker.v8)(classes, masks)
        model.model = nn.Sequential(*layers)
        model.names = dict.fromkeys(range(classes), "face")
        if method:
            model.detect = kinds["Detect"].forward
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        told = {"epoch": -1, "train_args": {"task": "segment" if masks else "detect"}}
        both = {"model": None, "ema": model} if averaged else {"model": model, "ema": None}
        torch.save({**told, **both, "optimizer": None}, path)
    return state
