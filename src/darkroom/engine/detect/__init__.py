"""Finding things in pictures: faces, hands, persons, whatever a user's detector is made for.

    detector_of("face", None).find(picture, confidence=0.5) -> [Found(box, score, label, mask), …]

`object` and `face` work as they are; `hand` and `person` run networks of a package that may be
installed (`core.packaged`); all else is a file: a .pt of the YOLO family or an ONNX export of one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from darkroom.core.errors import BadFile, UnknownName
from darkroom.core.model import Kind, ModelCard
from darkroom.core.packaged import packaged, packaged_names
from darkroom.engine.detect.blaze import HIPS, PALMS, Blaze, body_around, hand_around
from darkroom.engine.detect.found import Box, Detector, Found
from darkroom.engine.detect.objects import Objects
from darkroom.engine.detect.runtime import Session
from darkroom.engine.detect.yolo import load_yolo, yolo_session
from darkroom.engine.detect.yunet import YuNet

__all__ = ["Box", "Detector", "Found", "Session", "YuNet", "detector_of"]

Paths = tuple[Path, ...]

MADE: Mapping[str, Callable[[Paths], Detector]] = {
    "object": lambda paths: Objects(),
    "face": lambda paths: YuNet(),
    "hand": lambda paths: Blaze(paths[0], PALMS, hand_around, label="hand"),
    "person": lambda paths: Blaze(paths[0], HIPS, body_around, label="person", outline=paths[1]),
}


def detector_of(name: str, card: ModelCard | None) -> Detector:
    """The detector called `name`, whose file is that of `card` if it is not one of ours.

    BadRequest with the command to install what is missing; BadFile where the file is none.
    """
    if card is not None:
        return _of_file(Path(card.path), card.name)
    row = packaged(Kind.DETECTOR, name)
    if row is None:
        raise UnknownName("detector", name, packaged_names(Kind.DETECTOR))
    return MADE[row.name](row.paths())


def _of_file(path: Path, label: str) -> Detector:
    if path.suffix.lower() != ".onnx":
        return load_yolo(path, label=label)
    session = Session(path)
    shapes = session.shapes
    if not shapes or len(shapes[0]) != 3:
        raise BadFile(f"{path} is an ONNX model, but no detector of the YOLO family")
    return yolo_session(session, label=label)
