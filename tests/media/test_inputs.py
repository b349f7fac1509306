import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from darkroom.core.errors import BadFile, BadRequest, TooLarge
from darkroom.media import inputs as module
from darkroom.media.inputs import Inputs


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "My photo.JPG"
    Image.new("RGB", (9, 7), "teal").save(path, "JPEG")
    return path


def test_a_picture_is_kept_by_its_content_once(tmp_path, picture):
    inputs = Inputs(tmp_path / "data" / "inputs")
    digits = hashlib.sha256(picture.read_bytes()).hexdigest()
    ref = inputs.keep(str(picture))
    assert ref == f"sha256:{digits}"
    kept = inputs.path(ref)
    assert kept == tmp_path / "data" / "inputs" / digits[:2] / f"{digits}.jpg"
    assert kept.read_bytes() == picture.read_bytes()
    again = tmp_path / "copy.png"
    again.write_bytes(picture.read_bytes())
    assert inputs.keep(str(again)) == inputs.keep(ref) == ref
    everything = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert everything == [kept]
    assert not inputs.notes
    picture.unlink()
    assert Inputs(tmp_path / "data" / "inputs").path(ref) == kept


def test_what_is_no_picture_is_not_kept(tmp_path):
    inputs = Inputs(tmp_path / "inputs")
    for name, data in (("text.png", b"hello"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadFile):
            inputs.keep(str(tmp_path / name))
    with pytest.raises(BadFile, match="there is no file"):
        inputs.keep(str(tmp_path / "absent.png"))
    assert not [path for path in tmp_path.rglob("*") if "inputs" in path.parts and path.is_file()]


def test_what_is_not_here_any_more_is_said(tmp_path, picture):
    inputs = Inputs(tmp_path / "inputs")
    with pytest.raises(BadRequest, match="not here any more") as caught:
        inputs.path("sha256:" + "ab" * 32)
    assert caught.value.hint
    with pytest.raises(BadRequest, match="not here any more"):
        inputs.keep("sha256:" + "ab" * 32)
    for ref in ("sha256:", "sha256:../../etc/passwd", "sha256:" + "*" * 64, str(picture)):
        with pytest.raises(BadRequest):
            inputs.path(ref)


def test_where_nothing_can_be_written_the_file_is_read_from_where_it_is(tmp_path, picture):
    (tmp_path / "inputs").write_text("in the way")
    inputs = Inputs(tmp_path / "inputs")
    ref = inputs.keep(str(picture))
    assert inputs.path(ref) == picture
    assert len(inputs.notes) == 1
    assert str(picture) in inputs.notes[0]
    picture.unlink()
    with pytest.raises(BadRequest, match="not here any more"):
        inputs.path(ref)


def test_a_file_without_end_is_not_copied(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(TooLarge):
        Inputs(tmp_path / "inputs").keep(str(picture))
    assert not [path for path in (tmp_path / "inputs").rglob("*") if path.is_file()]


def test_many_may_keep_the_same_at_once(tmp_path, picture):
    inputs = Inputs(tmp_path / "inputs")
    with ThreadPoolExecutor(8) as pool:
        refs = set(pool.map(lambda _: inputs.keep(str(picture)), range(40)))
    assert len(refs) == 1
    assert len([p for p in (tmp_path / "inputs").rglob("*") if p.is_file()]) == 1


def test_a_home_folder_is_understood(tmp_path, picture, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    picture.rename(tmp_path / "photo.jpg")
    assert Inputs(tmp_path / "inputs").keep(f"~{os.sep}photo.jpg").startswith("sha256:")
