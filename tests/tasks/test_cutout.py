"""Cutting out, from a request to a file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.core.errors import BadRequest
from darkroom.core.processing import CutoutRequest
from darkroom.engine import segmenter
from darkroom.engine.segmenter import Segmenter, shares
from darkroom.media.metadata import find
from darkroom.tasks.cutout import cut_of, feathered
from drawn import ball


@pytest.fixture
def cut(worker, tmp_path):
    def made(picture, **fields):
        path = tmp_path / "in.png"
        picture.save(path)
        request = CutoutRequest.parse({"image": str(path), **fields})
        events = list(
            worker.run(request, output=tmp_path / f"out{len(list(tmp_path.iterdir()))}.png")
        )
        assert events[-1].kind == "done", events[-1].data
        (artifact,) = (event for event in events if event.kind == "artifact")
        notes = [event.data["text"] for event in events if event.kind == "warning"]
        with Image.open(artifact.data["path"]) as saved:
            done = saved.copy()
        done.info["path"] = Path(artifact.data["path"])
        return done, notes

    return made


def test_the_background_becomes_transparent(cut):
    picture, mask = ball()
    made, notes = cut(picture)
    assert made.mode == "RGBA" and made.size == picture.size
    assert notes == []
    alpha = np.asarray(made)[..., 3].astype(int)
    assert abs(alpha - np.asarray(mask, int)).mean() < 2
    inside = np.asarray(mask) == 255
    assert (np.asarray(made)[..., :3][inside] == np.asarray(picture)[inside]).mean() > 0.97


def test_a_background_that_is_mostly_plain_is_doubted_aloud(cut):
    picture, _ = ball()
    picture.paste("brown", (0, 0, picture.width // 8, picture.height))
    for model in ("auto", "plain"):
        (note,) = cut(picture, model=model)[1]
        assert "of the picture's border is one plain" in note and "--model u2netp" in note


def test_the_mask_alone(cut):
    picture, mask = ball()
    made, notes = cut(picture, mask_only=True, background="white", model="plain")
    assert made.mode == "L" and notes == ["background has no effect: the mask alone is saved"]
    assert abs(np.asarray(made, int) - np.asarray(mask, int)).mean() < 2


def test_a_colour_behind_it(cut):
    picture, mask = ball()
    made, _ = cut(picture, background="#00ff00", model="plain")
    pixels = np.asarray(made)
    assert made.mode == "RGB" and (pixels[0, 0] == [0, 255, 0]).all()
    edge = (np.asarray(mask) > 60) & (np.asarray(mask) < 200)
    assert pixels[edge][:, 2].mean() < 60  # nothing of the light wall is left


def test_what_made_it_stands_in_the_file(cut):
    made, _ = cut(ball()[0], model="plain", feather=3)
    recipe = find(made.info["path"]).recipe
    assert recipe.request.kind == "cutout" and recipe.request.feather == 3
    assert recipe.request.image.startswith("sha256:")


def test_an_empty_wall_is_said_to_be_empty(cut):
    made, notes = cut(Image.new("RGB", (40, 30), (200, 200, 200)), model="plain")
    assert "nothing stood out from the background" in notes
    assert not np.asarray(made)[..., 3].any()


def test_a_busy_border_wants_a_network():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    with pytest.raises(BadRequest, match="no plain or smooth background") as caught:
        cut_of(noise, "plain", None)
    assert "u2netp" in caught.value.hint


def test_without_the_network_the_command_that_brings_it_is_told(monkeypatch):
    monkeypatch.setattr("darkroom.core.packaged.util.find_spec", lambda name: None)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    with pytest.raises(
        BadRequest, match=r"border is no plain .* 'u2netp' needs .* onnxruntime"
    ) as caught:
        cut_of(noise, "auto", None)
    assert "-m pip install onnxruntime" in caught.value.hint


def test_a_colour_that_is_none_is_refused(worker, tmp_path):
    ball()[0].save(tmp_path / "in.png")
    request = CutoutRequest.parse({"image": str(tmp_path / "in.png"), "background": "see-through"})
    *_, last = worker.run(request, output=tmp_path / "out.png")
    assert last.kind == "failed" and "is no colour" in last.data["text"]


@pytest.mark.parametrize(("pixels", "values"), [(0, {0, 1}), (1, {0, 0.25, 1})])
def test_the_edge_is_hard_or_as_it_was_found(pixels, values):
    alpha = np.array([[0, 0.25, 1]], np.float32)
    assert set(feathered(alpha, pixels).ravel().tolist()) == values


def test_a_feathered_edge_fades_over_so_many_pixels():
    alpha = np.zeros((20, 100), np.float32)
    alpha[:, 50:] = 1
    row = feathered(alpha, 10)[10]
    fading = ((row > 0.05) & (row < 0.95)).sum()
    assert 12 <= fading <= 20 and row[49] + row[50] == pytest.approx(1, abs=1e-3)


# ---- networks ----------------------------------------------------------------------------------


def test_logits_become_shares_and_shares_are_stretched():
    logits = np.array([[-20, 0, 20]], np.float32)
    assert shares(logits)[0] == pytest.approx([0, 0.5, 1], abs=1e-4)
    assert shares(np.array([[0.2, 0.5, 0.8]], np.float32))[0] == pytest.approx([0, 0.5, 1])
    assert shares(np.full((1, 3), 0.01, np.float32)).max() < 0.1  # nothing stands out


class Fake:
    """A network that takes what is brighter than the middle for the subject."""

    takes = "input.1"

    def __init__(self, side):
        self.side = side

    def size(self, *, default):
        return self.side, self.side

    def run(self, pixels):
        self.given = pixels
        return [1 / (1 + np.exp(-9 * pixels.mean(1, keepdims=True)))]


@pytest.mark.parametrize(("side", "white"), [(320, (1 - 0.485) / 0.229), (1024, 0.5)])
def test_a_network_sees_colours_as_it_was_trained(monkeypatch, tmp_path, side, white):
    fake = Fake(side)
    monkeypatch.setattr(segmenter, "Session", lambda path, extra: fake)
    picture = Image.new("RGB", (100, 50))
    picture.paste((255, 255, 255), (50, 0, 100, 50))
    alpha = Segmenter(tmp_path / "u2net.onnx")(picture)
    assert fake.given.shape == (1, 3, side, side)
    assert fake.given[0, 0, 0, -1] == pytest.approx(white, rel=1e-4)
    assert alpha.shape == (50, 100)
    assert alpha[:, :40].max() < 0.05 and alpha[:, 60:].min() > 0.9
