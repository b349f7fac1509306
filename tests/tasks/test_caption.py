"""Captions by the worker: request in, event out."""

import pytest
from PIL import Image

from darkroom.core.errors import UnknownName
from darkroom.core.processing import CaptionRequest
from darkroom.tasks.caption import _without_effect


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (64, 48), (60, 125, 225)).save(tmp_path / "blue.png")
    return str(tmp_path / "blue.png")


def events(worker, **fields):
    return list(worker.run(CaptionRequest.parse(fields)))


def test_a_caption_is_an_event_before_the_last(worker, picture):
    found = events(worker, image=picture, threshold=0, most=3)
    assert [event.kind for event in found][-2:] == ["caption", "done"]
    told = found[-2].data
    assert "on a blue background" in told["text"]
    assert len(told["tags"]) == 3
    assert {name: len(rows) for name, rows in told["heads"].items()} == {
        **dict.fromkeys(("object", "colour", "background", "style"), 3),
    }


def test_what_it_is_not_sure_of_is_said(worker, picture):
    warnings = [e.data["text"] for e in events(worker, image=picture) if e.kind == "warning"]
    assert any("guessing" in text for text in warnings)


def test_a_model_that_is_not_here_is_refused_by_name(worker, picture):
    (last,) = events(worker, image=picture, model="nobody")
    assert last.kind == "failed"
    assert last.data["error"] == UnknownName.__name__
    assert "'nobody'" in last.data["text"]


@pytest.mark.parametrize("content", [b"", b"<svg></svg>", b"\x89PNG\r\n\x1a\n"])
def test_no_picture_no_caption(worker, tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    (last,) = events(worker, image=str(tmp_path / "bad.png"))
    assert (last.kind, last.data["error"]) == ("failed", "BadFile")


def test_a_stop_is_heeded(worker, picture):
    asked = CaptionRequest.parse({"image": picture})
    last = list(worker.run(asked, stop=lambda: True))[-1]
    assert last.data["error"] == "Cancelled"


def test_settings_without_effect_are_said():
    class Sentences:
        tags = False

    plain = CaptionRequest(image="a.png")
    assert list(_without_effect(plain, Sentences())) == []
    (said,) = _without_effect(plain.model_copy(update={"most": 3}), Sentences())
    assert said.startswith("most has no effect")


def test_the_captioner_stays_loaded(worker):
    assert worker.engine.captioner(None) is worker.engine.captioner(None)
