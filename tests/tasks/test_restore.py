"""Faces brought to where networks want them, mended, and laid back."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from darkroom.core.blocks import Restore
from darkroom.core.errors import BadRequest
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.engine import restorer
from darkroom.engine.detect import YuNet
from darkroom.tasks.restore import TEMPLATE, aligned, mended, restored, similarity
from drawn import face_picture


def turned(points, degrees, scale, offset):
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + offset


@pytest.mark.parametrize(
    ("degrees", "scale", "offset"), [(0, 1, (0, 0)), (30, 0.4, (90, -20)), (-160, 3, (7, 800))]
)
def test_a_similarity_is_found_exactly(degrees, scale, offset):
    points = turned(TEMPLATE, degrees, scale, offset)
    way = similarity(points, TEMPLATE)
    assert way(points) == pytest.approx(TEMPLATE)
    assert way.scale == pytest.approx(1 / scale)
    assert way.inverse()(TEMPLATE) == pytest.approx(points)


def test_mirrored_points_are_not_met_by_a_reflection():
    way = similarity(TEMPLATE * [-1, 1], TEMPLATE)
    assert np.linalg.det(way.matrix) > 0


@pytest.mark.parametrize("side", [60, 160, 900])
def test_a_face_is_cut_out_with_its_points_at_the_template(side):
    picture = face_picture(side)
    (found,) = YuNet().find(picture, confidence=0.6)
    face = aligned(picture, similarity(np.array(found.points), TEMPLATE))
    assert face.size == (512, 512)
    (again,) = YuNet().find(face, confidence=0.6)
    assert np.array(again.points) == pytest.approx(TEMPLATE, abs=25)


@pytest.mark.parametrize("side", [60, 160, 700])
def test_a_face_that_is_not_mended_is_laid_back_as_it_was(side):
    picture = face_picture(side)
    faces = YuNet().find(picture, confidence=0.6)
    done = mended(picture, faces, lambda face: face, visibility=1)
    change = np.abs(np.asarray(done, np.int16) - np.asarray(picture, np.int16))
    assert change.mean() < 1 and np.percentile(change, 99) <= 20


def test_only_the_face_is_changed_and_as_much_as_asked_for():
    picture = face_picture(160)
    faces = YuNet().find(picture, confidence=0.6)
    done = {
        v: np.asarray(mended(picture, faces, ImageOps.invert, visibility=v), np.int16)
        for v in (0, 0.5, 1)
    }
    before = np.asarray(picture, np.int16)
    assert (done[0] == before).all()
    changed = (done[1] != before).any(-1)
    left, top, right, bottom = (round(edge) for edge in faces[0].box)
    assert changed[top + 20 : bottom - 20, left + 20 : right - 20].mean() > 0.95
    assert not changed[:10].any() and not changed[:, :10].any() and not changed[-10:].any()
    middle = ((top + bottom) // 2, (left + right) // 2)
    assert done[1][middle] == pytest.approx(255 - before[middle], abs=3)
    assert done[0.5][middle] == pytest.approx(
        (255 - before[middle]) / 2 + before[middle] / 2, abs=3
    )


def test_a_face_at_the_border_is_no_trouble():
    picture = face_picture(160).crop((110, 60, 320, 320))
    faces = YuNet().find(picture, confidence=0.4)
    done = mended(picture, faces, ImageOps.invert, visibility=1)
    assert done.size == picture.size


class Inverter:
    faithful = False

    def __call__(self, face, *, fidelity, say):
        return ImageOps.invert(face)


class Engine:
    """What keeps networks: here one that inverts."""

    def restorer(self, card):
        self.card = card
        return Inverter()

    def detector(self, name, card):
        return YuNet()


class Job:
    def __init__(self, cards):
        self.cards, self.checks = cards, 0

    def check(self):
        self.checks += 1


CARD = ModelCard(
    sha256="0" * 64,
    path="GFPGANv1.4.pth",
    name="GFPGANv1.4",
    kind=Kind.RESTORER,
    arch=Arch.OTHER,
    bytes=1,
)


def test_the_network_of_the_request_mends():
    engine, job = Engine(), Job({(Kind.RESTORER, "GFPGANv1.4"): CARD})
    picture = face_picture(100)
    assert (
        restored(engine, job, Restore(model="GFPGANv1.4"), picture).tobytes() != picture.tobytes()
    )
    assert engine.card is CARD and job.checks == 1


def test_what_has_no_effect_is_said():
    engine, job, said = Engine(), Job({(Kind.RESTORER, "GFPGANv1.4"): CARD}), []
    picture, wall = face_picture(60), Image.new("RGB", (64, 64))
    none = Restore(model="GFPGANv1.4", visibility=0)
    assert restored(engine, job, none, picture, say=said.append) is picture
    assert restored(engine, job, Restore(model="GFPGANv1.4"), wall, say=said.append) is wall
    restored(engine, job, Restore(model="GFPGANv1.4", fidelity=0.1), picture, say=said.append)
    assert said == [
        "mending faces has no effect: its visibility is 0",
        "no face was found to mend",
        "fidelity has no effect: GFPGANv1.4 takes none",
    ]


def test_without_spandrel_the_command_that_brings_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(BadRequest, match=r"GFPGANv1\.4 mends faces with spandrel") as caught:
        restorer.load_restorer(CARD, None)
    assert "-m pip install spandrel" in caught.value.hint
