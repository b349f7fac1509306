"""Faces, found by YuNet: 53,104 numbers that come with the program.

W. Wu, H. Peng, S. Yu, "YuNet: a tiny millisecond-level face detector", Machine Intelligence
Research 20, 2023. The weights are those of OpenCV's zoo (2023mar, MIT), under other names.

The network looks at BGR values from 0 to 255 and answers on grids of 8, 16 and 32 pixels: a class
and an object score, a box, and five points (the eyes, the nose, the corners of the mouth, from the
left of the picture). Faces from 10 to 300 pixels are found, so a picture is looked at in several
sizes.
"""

from collections.abc import Iterator
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from darkroom.engine.detect.found import Floats, Found, box_of, distinct, fitted
from darkroom.weights.header import read_header
from darkroom.weights.reader import open_tensors

SIDES = (320, 640, 1280)  # px of the longer side, as it is looked at
STRIDES = (8, 16, 32)  # px between the places of a grid
COARSEST = 32
OVERLAP = 0.3  # that two faces may have


class YuNet:
    """The face detector that comes with the program; it runs on the CPU in milliseconds."""

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        path = Path(str(resources.files("darkroom") / "engine" / "data" / "yunet.safetensors"))
        header = read_header(path)
        with open_tensors(header) as file:
            return {name: file.tensor(name).clone() for name in header.tensors}

    def find(self, picture: Image.Image, *, confidence: float) -> list[Found]:
        """Faces with five points each, the surest first."""
        rows = np.concatenate(list(self._looks(picture, confidence)))
        kept = distinct(rows[:, 1:5], rows[:, 0], overlap=OVERLAP)
        return [_face(rows[number], picture.size) for number in kept]

    def _looks(self, picture: Image.Image, confidence: float) -> Iterator[Floats]:
        """Rows (n, 15) of score, box and points for each size, in pixels of the picture."""
        longest = max(picture.size)
        for side in SIDES:
            if side > SIDES[0] and side > 2 * longest:
                return  # it would only be blown up
            scale = side / longest
            size = tuple(
                -(-round(n * scale) // COARSEST) * COARSEST or COARSEST for n in picture.size
            )
            fit = fitted(picture, (size[0], size[1]), color=(0, 0, 0), centred=False)
            rows = decoded(self._answers(fit.image), confidence)
            rows[:, 1:] = fit.back(rows[:, 1:])
            yield rows

    @torch.inference_mode()
    def _answers(self, image: Image.Image) -> list[dict[str, Floats]]:
        bgr = np.ascontiguousarray(np.asarray(image, np.float32)[..., ::-1])
        return [
            {name: head[0].permute(1, 2, 0).numpy() for name, head in level.items()}
            for level in network(self._weights, torch.from_numpy(bgr).permute(2, 0, 1)[None])
        ]


def network(weights: dict[str, Tensor], x: Tensor) -> list[dict[str, Tensor]]:
    """Pixels (1, 3, H, W), sides multiples of 32, to the four heads of each of the three grids."""

    def block(name: str, x: Tensor, *, linear: bool = False) -> Tensor:
        """A convolution across channels, one within each, and a ReLU."""
        x = functional.conv2d(x, weights[f"{name}.across.weight"], weights[f"{name}.across.bias"])
        kernel = weights[f"{name}.within.weight"]
        bias = weights[f"{name}.within.bias"]
        x = functional.conv2d(x, kernel, bias, padding=1, groups=len(kernel))
        return x if linear else x.relu()

    x = functional.conv2d(x, weights["stem.weight"], weights["stem.bias"], stride=2, padding=1)
    x = functional.max_pool2d(block("backbone.0", x.relu()), 2)
    levels: list[Tensor] = []
    for stage in range(1, 6):
        x = block(f"backbone.{stage}.1", block(f"backbone.{stage}.0", x))
        if stage >= 3:
            levels.append(x)
        if 1 < stage < 5:
            x = functional.max_pool2d(x, 2)
    above = block("neck.2", levels[2])
    levels[2] = above
    for level in (1, 0):
        above = block(
            f"neck.{level}", levels[level] + functional.interpolate(above, scale_factor=2)
        )
        levels[level] = above
    heads = ("class", "object", "box", "points")
    return [
        {head: block(f"{head}.{level}", x, linear=True) for head in heads}
        for level, x in enumerate(levels)
    ]


def decoded(levels: list[dict[str, Floats]], confidence: float) -> Floats:
    """Rows (n, 15) of score, box and points from heads (h, w, …), in the network's pixels.

    A score is the geometric mean of both; places are relative to the grid's, sizes logarithmic.
    """
    rows = [np.empty((0, 15), np.float32)]
    for stride, heads in zip(STRIDES, levels, strict=True):
        score = np.sqrt(_sigmoid(heads["class"][..., 0]) * _sigmoid(heads["object"][..., 0]))
        sure = score >= confidence
        y, x = np.nonzero(sure)
        place = np.stack([x, y], axis=1).astype(np.float32)
        box, points = heads["box"][sure], heads["points"][sure].reshape(-1, 5, 2)
        centre, half = (place + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride / 2
        marks = ((place[:, None] + points) * stride).reshape(-1, 10)
        rows.append(
            np.concatenate([score[sure][:, None], centre - half, centre + half, marks], axis=1)
        )
    return np.concatenate(rows).astype(np.float32)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def _face(row: Floats, size: tuple[int, int]) -> Found:
    points = tuple((float(x), float(y)) for x, y in row[5:].reshape(5, 2))
    return Found(box=box_of(row[1:5], size), score=float(row[0]), label="face", points=points)
