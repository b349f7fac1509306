"""Detectors of the YOLO family: Ultralytics' .pt files, and what they export as ONNX.

Detectors for A1111 and ComfyUI come as such files: face_yolov8n.pt, person_yolov8n-seg.pt. A .pt
is a pickle of whole Python objects; ours is read by the machine in `weights.pickled`, which gives
the tensors and runs nothing, and by a network of our own.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkroom.core.errors import BadFile
from darkroom.engine.detect.found import Fitted, Floats, Found, box_of, distinct, fitted
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
        return [
            Found(
                box=box_of(fit.back(boxes[number]), picture.size),
                score=float(values[number]),
                label=self._label,
                mask=_mask(answer, int(sure[number]), fit=fit, size=picture.size),
            )
            for number in kept
        ]


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


def _mask(answer: Answer, place: int, *, fit: Fitted, size: tuple[int, int]) -> Image.Image | None:
    """The thing's mask in the picture: within its box, where its prototypes say more than half."""
    if answer.masks is None or answer.prototypes is None:
        return None
    depth, height, width = answer.prototypes.shape
    share = (answer.masks[place] @ answer.prototypes.reshape(depth, -1)).view(height, width)
    step = fit.image.width / width  # px to a pixel of the prototypes
    inner = [edge / step for edge in (fit.left, fit.top)]
    scaled = [side * fit.scale / step for side in size]
    region = (inner[0], inner[1], inner[0] + scaled[0], inner[1] + scaled[1])
    small = Image.fromarray(share.numpy().astype(np.float32))  # mode F
    large = np.asarray(small.resize(size, Image.Resampling.BILINEAR, box=_within(region, small)))
    left, top, right, bottom = box_of(fit.back(answer.boxes[place].numpy()), size)
    found: Floats = np.zeros(large.shape, np.float32)
    rows, columns = slice(round(top), round(bottom)), slice(round(left), round(right))
    found[rows, columns] = large[rows, columns] > 0
    return Image.fromarray((found * 255).astype(np.uint8))


def _within(
    region: tuple[float, float, float, float], image: Image.Image
) -> tuple[float, float, float, float]:
    left, top, right, bottom = region
    return max(0.0, left), max(0.0, top), min(image.width, right), min(image.height, bottom)
