"""Detectors that need no file of the user's, and what all of them share."""

import numpy as np
import pytest
from PIL import Image

from darkroom.core.errors import BadFile, BadRequest, UnknownName
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.packaged import PACKAGED, packaged, packaged_names
from darkroom.core.processing import CutoutRequest
from darkroom.core.request import ImageRequest
from darkroom.engine.detect import blaze, detector_of, runtime
from darkroom.engine.detect.found import distinct, fitted, overlaps
from darkroom.engine.detect.yunet import decoded
from darkroom.library.detectors import check_installed
from drawn import EYES_AND_MOUTH, ball, face_picture

# ---- shared ------------------------------------------------------------------------------------


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    assert overlaps(boxes[0], boxes) == pytest.approx([1, 50 / 150, 0])


def test_of_boxes_that_overlap_the_surest_is_kept():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]], np.float32)
    scores = np.array([0.5, 0.9, 0.6], np.float32)
    assert distinct(boxes, scores, overlap=0.5) == [1, 2]
    assert distinct(boxes, scores, overlap=0.95) == [1, 2, 0]
    assert distinct(boxes[:0], scores[:0], overlap=0.5) == []


@pytest.mark.parametrize("centred", [True, False])
def test_a_fitted_picture_finds_its_way_back(centred):
    fit = fitted(Image.new("RGB", (300, 100), (9, 9, 9)), (128, 128), centred=centred)
    assert fit.image.size == (128, 128)
    inside = np.asarray(fit.image)[..., 0] == 9
    rows, columns = np.nonzero(inside)
    corners = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    assert fit.back(corners)[0] == pytest.approx([0, 0, 300, 100], abs=2)


# ---- faces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [40, 160, 500])
def test_a_face_is_found_with_its_points(side):
    (found,) = detector_of("face", None).find(face_picture(side), confidence=0.6)
    left, top, right, bottom = (edge / side - 0.5 for edge in found.box)
    assert 0 < left < 0.3 and 0.7 < right < 1 and top < 0.3 and bottom > 0.8
    points = [(x / side - 0.5, y / side - 0.5) for x, y in found.points]
    assert len(points) == 5
    for seen, drawn in zip(
        (points[0], points[1], points[3], points[4]), EYES_AND_MOUTH, strict=True
    ):
        assert seen == pytest.approx(drawn, abs=0.06)


def test_where_no_face_is_none_is_found():
    assert detector_of("Face", None).find(ball()[0], confidence=0.5) == []
    assert detector_of("face", None).find(Image.new("RGB", (7, 900)), confidence=0.5) == []


def test_two_faces_of_different_size_are_two():
    picture = Image.new("RGB", (640, 320), (90, 120, 150))
    picture.paste(face_picture(150), (0, 0))
    picture.paste(face_picture(40), (400, 100))
    found = detector_of("face", None).find(picture, confidence=0.6)
    assert len(found) == 2


def test_places_and_sizes_of_yunet_are_relative_to_its_grid():
    def heads(h, w):
        return {
            "class": np.full((h, w, 1), -20, np.float32), "object": np.full((h, w, 1), -20, np.float32),
            "box": np.zeros((h, w, 4), np.float32), "points": np.zeros((h, w, 10), np.float32),
        }  # fmt: skip

    levels = [heads(8, 8), heads(4, 4), heads(2, 2)]
    levels[1]["class"][2, 3] = levels[1]["object"][2, 3] = 20
    levels[1]["box"][2, 3] = [0.5, 0.25, np.log(2), np.log(3)]
    levels[1]["points"][2, 3] = np.arange(10) / 10
    (row,) = decoded(levels, 0.5)
    cx, cy = 3.5 * 16, 2.25 * 16
    assert row[:5] == pytest.approx([1, cx - 16, cy - 24, cx + 16, cy + 24], rel=1e-4)
    assert row[5:] == pytest.approx(
        [16 * (3 + x / 10) if n % 2 == 0 else 16 * (2 + x / 10) for n, x in enumerate(range(10))]
    )


# ---- things ------------------------------------------------------------------------------------


def test_a_photo_is_looked_at_smaller():
    small, _ = ball((300, 200), box=(20, 30, 120, 130))
    picture = small.resize((4101, 2731), Image.Resampling.BICUBIC)  # a part of a step is left over
    (found,) = detector_of("object", None).find(picture, confidence=0.5)
    scale = 4101 / 300
    assert found.box == pytest.approx([scale * edge for edge in (20, 30, 121, 131)], abs=2 * scale)
    left, top, right, bottom = found.region
    assert found.mask.size == (right - left, bottom - top)


def test_things_are_found_with_masks_the_largest_first():
    picture, mask = ball((300, 200), box=(20, 30, 120, 130))
    _, small = ball((60, 60), box=(10, 10, 45, 45), color=(30, 40, 200))
    region = (200, 100)
    picture.paste((30, 40, 200), region, small)
    found = detector_of("object", None).find(picture, confidence=0.5)
    assert [tuple(map(round, each.box)) for each in found] == [
        pytest.approx((20, 30, 121, 131), abs=2), pytest.approx((210, 110, 246, 146), abs=2),
    ]  # fmt: skip
    own = np.asarray(found[0].mask) > 0
    assert found[0].mask.size == (101, 101) and found[0].region == (20, 30, 121, 131)
    assert (own == (np.asarray(mask.crop(found[0].region)) > 127)).mean() > 0.98


def test_a_busy_border_hides_all_things():
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    assert detector_of("object", None).find(Image.fromarray(noise), confidence=0.1) == []


# ---- hands and persons -------------------------------------------------------------------------


@pytest.mark.parametrize(("grids", "count"), [(blaze.PALMS, 2016), (blaze.HIPS, 2254)])
def test_the_grids_have_a_place_for_every_answer(grids, count):
    centres = grids.centres()
    assert len(centres) == count
    assert centres.min() > 0 and centres.max() < 1
    assert centres[0] == pytest.approx([4 / grids.side, 4 / grids.side])


def test_a_hand_reaches_beyond_its_palm_towards_the_fingers():
    points = np.zeros((9, 2), np.float32)
    points[0], points[1] = (100, 100), (40, 40)
    points[2], points[4] = (100, 120), (100, 80)  # the wrist is below: the hand points up
    assert blaze.hand_around(points) == pytest.approx([48, 28, 152, 132])


class Answers:
    """A network that gives what it is told to."""

    def __init__(self, side, answers):
        self.side, self.answers, self.seen = side, answers, None

    def run(self, pixels):
        self.seen = pixels
        return self.answers


def test_a_person_is_where_the_hips_are_and_as_far_as_the_outline_goes(monkeypatch, tmp_path):
    boxes, logits = np.zeros((1, 2254, 12), np.float32), np.full((1, 2254, 1), -90, np.float32)
    place = 28 * 28 * 2 + 14 * 7 * 2 + 14  # the middle of the second grid: (7.5, 7.5) / 14
    logits[0, place] = 5
    middle = 7.5 / 14 * 224
    boxes[0, place, 4:8] = [112 - middle, 112 - middle, 112 - middle, 112 - middle + 56]
    share = np.zeros((1, 256, 256, 1), np.float32)
    share[0, 64:192, 64:128] = 0.9
    networks = {"hips": Answers(224, [boxes, logits]), "outline": Answers(256, [share])}
    monkeypatch.setattr(blaze, "Lite", lambda path: networks[path.name])
    detector = blaze.Blaze(
        tmp_path / "hips",
        blaze.HIPS,
        blaze.body_around,
        label="person",
        outline=tmp_path / "outline",
    )
    (found,) = detector.find(Image.new("RGB", (448, 448), "white"), confidence=0.5)
    # around (224, 224), 112 px to each side; of that the quarter to the half from the left
    assert found.box == pytest.approx((112 + 56, 112 + 56, 112 + 112, 112 + 168), abs=2)
    left, top, right, bottom = found.region
    assert found.mask.size == (right - left, bottom - top) and found.score > 0.99
    assert found.mask.getextrema() == (255, 255)
    assert networks["hips"].seen.min() == pytest.approx(1)  # white, from -1 to 1
    assert detector.find(Image.new("RGB", (448, 448)), confidence=0.999) == []


# ---- what is missing ---------------------------------------------------------------------------


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr("darkroom.core.packaged.util.find_spec", lambda name: None)
    for name in ("hand", "person"):
        with pytest.raises(BadRequest, match=f"the detector '{name}' needs the package") as caught:
            detector_of(name, None)
        assert "-m pip install ai-edge-litert onnxruntime && " in caught.value.hint
        with pytest.raises(BadRequest):
            check_installed(ImageRequest.parse({"detail": [{"detector": name}]}))
    with pytest.raises(BadRequest, match="onnxruntime"):
        check_installed(CutoutRequest.parse({"image": "x.png", "model": "u2netp"}))
    check_installed(ImageRequest.parse({"detail": [{"detector": "face"}, {"detector": "my.pt"}]}))


def test_a_package_without_its_models_is_as_good_as_none(monkeypatch):
    row = packaged(Kind.DETECTOR, "hand")
    monkeypatch.setattr("darkroom.core.packaged.util.find_spec", lambda name: object())
    with pytest.raises(BadRequest, match="the package mediapipe"):
        row.paths()


def test_every_packaged_name_is_unique_and_can_be_asked_for():
    rows = [(row.kind, row.name) for row in PACKAGED]
    assert len(set(rows)) == len(rows)
    assert set(packaged_names(Kind.DETECTOR)) == {"object", "face", "hand", "person"}
    with pytest.raises(UnknownName, match="'fac'") as caught:
        detector_of("fac", None)
    assert "'face'" in caught.value.hint


def card(path):
    return ModelCard(
        sha256="0" * 64,
        path=str(path),
        name=path.stem,
        kind=Kind.DETECTOR,
        arch=Arch.OTHER,
        bytes=1,
    )


def test_an_onnx_file_asks_for_onnxruntime(monkeypatch, tmp_path):
    def gone(name):
        raise ImportError(name)

    monkeypatch.setattr(runtime, "import_module", gone)
    with pytest.raises(BadRequest, match=r"face\.onnx is an ONNX model, and onnxruntime") as caught:
        detector_of("face.onnx", card(tmp_path / "face.onnx"))
    assert "-m pip install ai-edge-litert" in caught.value.hint


class FakeOnnx:
    """onnxruntime with one network that gives what it is told to."""

    def __init__(self, outputs, side=64):
        self.outputs, self.side = outputs, side

    class SessionOptions:
        log_severity_level = 0

    def InferenceSession(self, path, options, providers):  # noqa: N802
        return self

    def get_inputs(self):
        return [
            type(
                "Input",
                (),
                {"name": "images", "shape": [1, 3, self.side, "w"], "type": "tensor(float)"},
            )
        ]

    def get_outputs(self):
        return [type("Output", (), {"shape": list(each.shape)}) for each in self.outputs]

    def run(self, names, given):
        (self.given,) = given.values()
        return self.outputs


def test_an_exported_yolo_is_run_by_onnxruntime(monkeypatch, tmp_path):
    rows = np.zeros((1, 5, 3), np.float32)
    rows[0, :, 1] = [32, 32, 16, 32, 0.8]
    fake = FakeOnnx([rows])
    monkeypatch.setattr(runtime, "import_module", lambda name: fake)
    (found,) = detector_of("any", card(tmp_path / "any.onnx")).find(
        Image.new("RGB", (640, 64)), confidence=0.5
    )
    assert fake.given.shape == (1, 3, 64, 640)  # any width: the usual one
    assert found.box == (24, 16, 40, 48) and found.label == "any"


def test_a_network_that_wants_absurd_pictures_is_refused(monkeypatch, tmp_path):
    fake = FakeOnnx([np.zeros((1, 5, 3), np.float32)], side=10**6)
    monkeypatch.setattr(runtime, "import_module", lambda name: fake)
    with pytest.raises(BadFile, match="wants pictures of 640 x 1,000,000 pixels"):
        detector_of("any", card(tmp_path / "any.onnx"))


def test_another_onnx_network_is_no_detector(monkeypatch, tmp_path):
    fake = FakeOnnx([np.zeros((1, 1000), np.float32)])
    monkeypatch.setattr(runtime, "import_module", lambda name: fake)
    with pytest.raises(BadFile, match="no detector"):
        detector_of("any", card(tmp_path / "any.onnx"))
