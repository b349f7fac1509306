"""Detectors of the YOLO family: Ultralytics' .pt files, and what they export as ONNX.

Detectors for A1111 and ComfyUI come as such files: face_yolov8n.pt, person_yolov8n-seg.pt. A .pt
is a pickle of whole Python objects; ours is read by the machine in `weights.pickled`, which gives
the tensors and runs nothing, and by a network of our own.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.engine.detect.found import Fitted, Found, box_of, distinct, fitted
from darkroom.engine.detect.runtime import Session
from darkroom.engine.detect.yolo_network import Answer, YoloNetwork
from darkroom.weights.header import Header, read_header
from darkroom.weights.reader import open_tensors

SIDE = 640  # px of the longer side, as it is looked at
MULTIPLE = 32  # px
OVERLAP = 0.7  # that two things may have
MOST = 300  # things in a picture
AVERAGED = "ema."  # where training keeps the weights that are used
EXPORT = "Export it to ONNX with the program that made it, and use that file."

Network = Callable[[Tensor], Answer]
Region = tuple[int, int, int, int]  # px: left, top, right, bottom


class Yolo:
    """One model, whatever file it came from."""

    def __init__(
        self, network: Network, *, label: str, size: tuple[int, int] | None = None
    ) -> None:
        """`size` is the (width, height) that the network wants; None: any multiple of 32."""
        self._network, self._label, self._size = network, label, size

    def find(self, picture: Image.Image, *, confidence: float) -> list[Found]:
        """Things of all of its classes, with masks where it makes masks, the surest first."""
        fit = fitted(picture, self._size or _size(picture))
        pixels = torch.from_numpy(np.asarray(fit.image, np.float32) / 255).permute(2, 0, 1)
        answer = self._network(pixels.unsqueeze(0))
        scores = answer.scores.amax(1)
        sure = (scores >= confidence).nonzero()[:, 0]
        boxes, values = answer.boxes[sure].numpy(), scores[sure].numpy()
        # the same place, of another class, is another thing
        apart = answer.scores[sure].argmax(1).numpy()[:, None] * np.float32(2 * max(fit.image.size))
        kept = distinct((boxes + apart).astype(np.float32), values, overlap=OVERLAP)[:MOST]
        found = []
        for number in kept:
            box = box_of(fit.back(boxes[number]), picture.size)
            thing = Found(box=box, score=float(values[number]), label=self._label)
            if thing.area:
                mask = _mask(answer, int(sure[number]), fit=fit, region=thing.region)
                found.append(replace(thing, mask=mask))
        return found


def load_yolo(path: Path, *, label: str) -> Yolo:
    """The detector in a .pt or .safetensors file; BadFile if it is none that we know."""
    header = read_header(path)
    with open_tensors(header) as file:
        tensors = {name: file.tensor(name).clone() for name in _wanted(header)}
    try:
        network = YoloNetwork(tensors)
        network(torch.zeros(1, 3, MULTIPLE, MULTIPLE))  # now, not in the middle of a job
    except (KeyError, StopIteration, RuntimeError) as error:
        what = f"{path} is a detector that this version cannot run"
        raise BadFile(what, hint=f"YOLOv8 and YOLO11 run, for boxes and masks. {EXPORT}") from error
    return Yolo(network, label=label)


def yolo_session(session: Session, *, label: str) -> Yolo:
    """The detector in an ONNX file as Ultralytics writes them."""

    def network(pixels: Tensor) -> Answer:
        rows, *more = session.run(pixels.numpy())
        return exported(torch.from_numpy(rows[0]), torch.from_numpy(more[0][0]) if more else None)

    return Yolo(network, label=label, size=session.size(default=SIDE))


def exported(rows: Tensor, prototypes: Tensor | None) -> Answer:
    """An exported answer (4 + classes + M, N): centres and sizes, scores, shares of M masks."""
    rows = rows.T
    masks = 0 if prototypes is None else len(prototypes)
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    end = rows.shape[1] - masks
    boxes = torch.cat([centre - half, centre + half], 1)
    return Answer(boxes, rows[:, 4:end], rows[:, end:] if masks else None, prototypes)


def _wanted(header: Header) -> list[str]:
    """The names of the averaged weights where there are such, else of the plain ones."""
    averaged = [name for name in header.tensors if name.startswith(AVERAGED)]
    if averaged:
        return averaged
    return [name for name in header.tensors if not name.startswith("optimizer")]


def _size(picture: Image.Image) -> tuple[int, int]:
    """As it is looked at: no longer than SIDE, each side the next multiple of 32."""
    scale = SIDE / max(picture.size)
    width, height = (
        max(MULTIPLE, -(-round(side * scale) // MULTIPLE) * MULTIPLE) for side in picture.size
    )
    return width, height


def _mask(answer: Answer, place: int, *, fit: Fitted, region: Region) -> Image.Image | None:
    """The thing's mask in a region of the picture: where its prototypes say more than half."""
    if answer.masks is None or answer.prototypes is None:
        return None
    depth, height, width = answer.prototypes.shape
    share = (answer.masks[place] @ answer.prototypes.reshape(depth, -1)).view(height, width)
    step = fit.image.width / width  # px to a pixel of the prototypes
    left, top, right, bottom = region
    small = Image.fromarray(share.numpy().astype(np.float32))  # mode F
    seen = (
        max(0.0, (left * fit.scale + fit.left) / step),
        max(0.0, (top * fit.scale + fit.top) / step),
        min(float(width), (right * fit.scale + fit.left) / step),
        min(float(height), (bottom * fit.scale + fit.top) / step),
    )
    large = small.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=seen)
    return Image.fromarray(np.where(np.asarray(large) > 0, 255, 0).astype(np.uint8))
