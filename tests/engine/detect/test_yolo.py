"""YOLO detectors, read from whole pickled objects without a class of theirs."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from darkroom.core.errors import BadFile
from darkroom.core.model import Kind
from darkroom.engine.detect.yolo import Yolo, exported, load_yolo
from darkroom.engine.detect.yolo_network import Answer, YoloNetwork
from darkroom.weights.header import read_header
from darkroom.weights.identify import identify
from darkroom.weights.reader import open_tensors
from yolo_files import save_yolo

PIXELS = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(5))


def network_of(path):
    header = read_header(path)
    with open_tensors(header) as file:
        return YoloNetwork({name: file.tensor(name).clone() for name in header.tensors})


class Direct:
    """YOLOv8 as its parts are defined, with batch norms as batch norms."""

    def __init__(self, state):
        self.state = {name.removeprefix("model."): t for name, t in state.items()}

    def conv(self, name, x, stride=1):
        w = self.state[f"{name}.conv.weight"]
        bn = [
            self.state[f"{name}.bn.{p}"] for p in ("running_mean", "running_var", "weight", "bias")
        ]
        x = functional.conv2d(x, w, None, stride, w.shape[-1] // 2)
        return functional.silu(functional.batch_norm(x, *bn, eps=1e-3))

    def c2f(self, name, x, shortcut):
        a, b = self.conv(f"{name}.cv1", x).chunk(2, 1)
        c = self.conv(f"{name}.m.0.cv2", self.conv(f"{name}.m.0.cv1", b))
        return self.conv(f"{name}.cv2", torch.cat([a, b, b + c if shortcut else c], 1))

    def stem(self, name, x):
        x = self.conv(f"{name}.1", self.conv(f"{name}.0", x))
        return functional.conv2d(x, self.state[f"{name}.2.weight"], self.state[f"{name}.2.bias"])

    def levels(self, x):
        x = self.c2f("2", self.conv("1", self.conv("0", x, 2), 2), True)
        p3 = self.c2f("4", self.conv("3", x, 2), True)
        p4 = self.c2f("6", self.conv("5", p3, 2), True)
        x = self.c2f("8", self.conv("7", p4, 2), True)
        parts = [self.conv("9.cv1", x)]
        for _ in range(3):
            parts.append(functional.max_pool2d(parts[-1], 5, 1, 2))
        p5 = self.conv("9.cv2", torch.cat(parts, 1))
        up = lambda y: functional.interpolate(y, scale_factor=2)
        n4 = self.c2f("12", torch.cat([up(p5), p4], 1), False)
        n3 = self.c2f("15", torch.cat([up(n4), p3], 1), False)
        n4 = self.c2f("18", torch.cat([self.conv("16", n3, 2), n4], 1), False)
        n5 = self.c2f("21", torch.cat([self.conv("19", n4, 2), p5], 1), False)
        return n3, n4, n5

    def boxes(self, x):
        rows = []
        for number, (level, stride) in enumerate(zip(self.levels(x), (8, 16, 32), strict=True)):
            out = self.stem(f"22.cv2.{number}", level)
            _, _, h, w = out.shape
            sides = (out.view(4, 16, h, w).softmax(1) * torch.arange(16.0)[:, None, None]).sum(1)
            for y in range(h):
                for x_ in range(w):
                    left, top, right, bottom = sides[:, y, x_]
                    cx, cy = x_ + 0.5, y + 0.5
                    rows.append(
                        torch.stack([cx - left, cy - top, cx + right, cy + bottom]) * stride
                    )
        return torch.stack(rows)

    def scores(self, x):
        heads = [self.stem(f"22.cv3.{n}", level) for n, level in enumerate(self.levels(x))]
        return torch.cat([head[0].flatten(1).T for head in heads]).sigmoid()


@pytest.mark.parametrize("how", [{}, {"averaged": True}, {"method": True}])
def test_a_pickled_v8_answers_as_its_definition_says(tmp_path, how):
    state = save_yolo(tmp_path / "face.pt", classes=2, **how)
    answer = network_of(tmp_path / "face.pt")(PIXELS)
    direct = Direct(state)
    assert torch.allclose(answer.boxes, direct.boxes(PIXELS), atol=1e-3)
    assert torch.allclose(answer.scores, direct.scores(PIXELS), atol=1e-5)
    assert answer.masks is None


def test_masks_are_shares_of_prototypes(tmp_path):
    state = save_yolo(tmp_path / "person.pt", masks=True)
    answer = network_of(tmp_path / "person.pt")(PIXELS)
    direct = Direct(state)
    p3 = direct.levels(PIXELS)[0]
    x = direct.conv("22.proto.cv1", p3)
    up = (direct.state[f"22.proto.upsample.{part}"] for part in ("weight", "bias"))
    x = direct.conv("22.proto.cv2", functional.conv_transpose2d(x, *up, stride=2))
    assert torch.allclose(answer.prototypes, direct.conv("22.proto.cv3", x)[0], atol=1e-4)
    first = direct.stem("22.cv4.0", p3)[0].flatten(1).T
    assert torch.allclose(answer.masks[: len(first)], first, atol=1e-4)


def test_a_v11_is_built_from_its_shapes(tmp_path):
    save_yolo(tmp_path / "hand.pt", classes=3, v11=True)
    network = network_of(tmp_path / "hand.pt")
    answer = network(PIXELS)
    places = 8 * 12 + 4 * 6 + 2 * 3
    assert network.classes == 3
    assert answer.boxes.shape == (places, 4) and answer.scores.shape == (places, 3)
    assert answer.boxes.isfinite().all()


@pytest.mark.parametrize(
    ("masks", "label"), [(False, "a detector (YOLO)"), (True, "a detector (YOLO, with masks)")]
)
def test_the_library_knows_such_files(tmp_path, masks, label):
    save_yolo(tmp_path / "any.pt", masks=masks)
    found = identify(read_header(tmp_path / "any.pt"))
    assert (found.kind, found.label) == (Kind.DETECTOR, label)


def test_half_a_detector_is_refused_with_a_cure(tmp_path):
    state = save_yolo(tmp_path / "x.pt")
    broken = {name: t for name, t in state.items() if "model.12." not in name}
    torch.save(broken, tmp_path / "half.pt")
    with pytest.raises(BadFile, match="cannot run") as caught:
        load_yolo(tmp_path / "half.pt", label="half")
    assert "ONNX" in caught.value.hint


# What is found, with a network that answers what is wanted.


def answering(boxes, scores, *, masks=None, prototypes=None):
    return lambda pixels: Answer(
        torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores), masks, prototypes
    )


def test_boxes_come_back_in_the_pixels_of_the_picture():
    # 1280 x 640 is looked at as 640 x 320
    yolo = Yolo(answering([[100, 50, 200, 150]], [[0.9]]), label="face")
    (found,) = yolo.find(Image.new("RGB", (1280, 640)), confidence=0.5)
    assert found.box == (200, 100, 400, 300)
    assert (found.label, round(found.score, 3)) == ("face", 0.9)


def test_one_thing_is_found_once_and_the_unsure_not_at_all():
    boxes = [[10, 10, 100, 100], [12, 11, 101, 99], [10, 10, 100, 100], [300, 10, 400, 90]]
    scores = [[0.8, 0.0], [0.9, 0.0], [0.0, 0.7], [0.3, 0.1]]
    yolo = Yolo(answering(boxes, scores), label="any")
    found = yolo.find(Image.new("RGB", (640, 640)), confidence=0.5)
    assert [round(each.score, 1) for each in found] == [
        0.9,
        0.7,
    ]  # the other class is another thing
    assert yolo.find(Image.new("RGB", (640, 640)), confidence=0.95) == []


def test_a_mask_lies_within_its_box_where_the_picture_has_it():
    prototypes = torch.full((1, 160, 160), -1.0)
    prototypes[0, 60:80, 40:120] = 1.0  # px 240 … 320 from the top, 160 … 480 from the left
    answer = answering(
        [[160, 200, 320, 400]], [[0.9]], masks=torch.ones(1, 1), prototypes=prototypes
    )
    (found,) = Yolo(answer, label="person", size=(640, 640)).find(
        Image.new("RGB", (320, 160)), confidence=0.5
    )
    assert found.region == (80, 20, 160, 120) and found.mask.size == (80, 100)
    whole = Image.new("L", (320, 160))
    whole.paste(found.mask, found.region)
    mask = np.asarray(whole) > 0
    # 320 x 160 is looked at twice as large, 160 px from the top
    rows, columns = np.nonzero(mask)
    assert abs(columns.min() - 80) <= 1 and abs(columns.max() - 159) <= 1
    assert abs(rows.min() - 40) <= 1 and abs(rows.max() - 79) <= 1


def test_an_exported_answer_says_centres_and_sizes():
    rows = torch.tensor([[10.0], [20.0], [4.0], [6.0], [0.5], [7.0], [8.0]])
    answer = exported(rows, torch.zeros(2, 4, 4))
    assert answer.boxes.tolist() == [[8, 17, 12, 23]]
    assert answer.scores.tolist() == [[0.5]] and answer.masks.tolist() == [[7, 8]]


def test_what_lies_beyond_the_picture_is_not_found():
    """A network that pads a picture may see things in the padding."""
    answer = answering([[160, 0, 320, 100], [-90, 200, -10, 300]], [[0.9], [0.8]])
    picture = Image.new("RGB", (320, 160))  # 160 px from the top
    assert Yolo(answer, label="person", size=(640, 640)).find(picture, confidence=0.5) == []
