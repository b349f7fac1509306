"""Networks that tell a picture's subject from its background: U2Net, ISNet, RMBG, BiRefNet as ONNX.

    alpha = Segmenter(path)(picture)         (H, W) in [0, 1]: 1 is subject

X. Qin et al., "U2-Net", 2020; "Highly Accurate Dichotomous Image Segmentation" (ISNet), 2022;
P. Zheng et al., "Bilateral Reference" (BiRefNet), 2024. What a network was trained on cannot be
read from its file: it is told by the size of its input and by the names in it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom.core.errors import BadFile
from darkroom.engine.detect import Session

Floats = NDArray[np.float32]

SIDE = 1024  # px, where a network takes any size
OUTSIDE = 0.01  # a value further from [0, 1] is no share yet


@dataclass(frozen=True, slots=True)
class Norm:
    """What the colours in [0, 1] of the training pictures were shifted and divided by."""

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]


IMAGENET = Norm((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRED = Norm((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
LARGE = 1024  # px; ISNet and RMBG see pictures of this side, and these are centred
TRANSFORMERS = ("input_image", "pixel_values")  # inputs of BiRefNet and RMBG 2, of the same size


class Segmenter:
    """One network; BadFile where the file is none, BadRequest where its runtime is missing."""

    def __init__(self, path: Path) -> None:
        self._session = Session(path, extra="cutout")
        self._path = path
        self._size = self._session.size(default=SIDE)
        centred = max(self._size) >= LARGE and self._session.takes not in TRANSFORMERS
        self._norm = CENTRED if centred else IMAGENET

    def __call__(self, picture: Image.Image) -> Floats:
        """The share of each pixel of `picture` that is subject."""
        small = picture.convert("RGB").resize(self._size, Image.Resampling.LANCZOS)
        mean, spread = (np.array(each, np.float32) for each in (self._norm.mean, self._norm.spread))
        pixels = (np.asarray(small, np.float32) / np.float32(255) - mean) / spread
        answer = self._session.run(pixels.transpose(2, 0, 1)[None])[0]
        if answer.ndim != 4 or answer.shape[1] != 1:
            raise BadFile(f"{self._path} does not tell subject from background")
        share = Image.fromarray(shares(answer[0, 0]))
        large = share.resize(picture.size, Image.Resampling.BICUBIC)
        return np.clip(np.asarray(large, np.float32), 0, 1)


def shares(answer: Floats) -> Floats:
    """An answer as shares from 0 to 1: logits by the sigmoid, others stretched over all of it.

    As in the networks' own programs; where nothing stands out the answer stays as it is.
    """
    low, high = float(answer.min()), float(answer.max())
    if low < -OUTSIDE or high > 1 + OUTSIDE:
        answer = np.asarray(1 / (1 + np.exp(-np.clip(answer, -50, 50))), np.float32)
        low, high = float(answer.min()), float(answer.max())
    if high < 0.1:
        return np.asarray(answer, np.float32)
    return np.asarray((answer - low) / max(high - low, 1e-6), np.float32)
