import os
import subprocess
import sys

import pytest

import darkroom
from darkroom import BadRequest, Studio
from darkroom.media.metadata import read_recipe
from tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    tiny_checkpoint(folder / "tiny.safetensors", metadata={"modelspec.resolution": "64x64"})
    return Studio(models_dirs=[folder], data_dir=folder / "data")


def test_one_line_makes_a_picture_that_can_be_saved(studio, tmp_path):
    picture = studio.txt2img("a red apple", model="tiny", steps=1, seed=3)
    assert picture.image.size == (64, 64)
    assert picture.recipe.seed == 3
    path = picture.save(tmp_path / "apple.png")
    with pytest.raises(BadRequest, match="exists already"):
        picture.save(path)
    assert picture.save(path, overwrite=True) == path
    assert picture.save(tmp_path / "new" / "apple.png").read_bytes() == picture.png
    for name in ("apple.jpg", "apple.webp", "apple.avif"):
        saved = picture.save(tmp_path / name, quality=80)
        assert read_recipe(saved) == picture.recipe
    with pytest.raises(BadRequest, match="no such kind of picture"):
        picture.save(tmp_path / "apple.bmp")


def test_nothing_is_left_unfinished_when_the_picture_is_taken_and_the_rest_left(studio, tmp_path):
    studio.txt2img("a red apple", model="tiny", steps=1, seed=3)
    pictures = studio.run(darkroom.ImageRequest(prompt="x", model="tiny", steps=1, count=2))
    picture = next(pictures)
    pictures.close()
    assert picture.image.size == (64, 64)
    assert not list(studio._worker.unfinished.glob("*/*.safetensors"))


def test_more_pictures_come_one_by_one(studio):
    request = darkroom.ImageRequest(prompt="x", model="tiny", steps=1, count=3, seed=5)
    assert [picture.recipe.seed for picture in studio.run(request)] == [5, 6, 7]
    with pytest.raises(BadRequest, match="one picture"):
        studio.txt2img("x", model="tiny", count=2)


def test_errors_are_ours(studio):
    with pytest.raises(BadRequest, match="steps"):
        studio.txt2img("x", steps=0)
    with pytest.raises(darkroom.BadRequest, match="unknown model"):
        studio.txt2img("x", model="nothing")


def test_what_would_have_no_effect_is_refused():
    for name, value in (("outputs_dir", "out"), ("preview", "tiny"), ("preview_seconds", 1)):
        with pytest.raises(BadRequest, match=f"{name} has no effect on a Studio"):
            Studio(**{name: value})


def test_notes_are_warnings_and_nobody_pays_for_previews(studio, monkeypatch):
    monkeypatch.setattr("darkroom.tasks.previews.save_preview", None)
    with pytest.warns(darkroom.DarkroomWarning, match="no effect"):
        studio.txt2img("x", model="tiny", steps=2, sampler="DDIM", scheduler="Karras")


def test_saving_never_replaces_what_came_in_the_meantime(studio, tmp_path, monkeypatch):
    picture = studio.txt2img("x", model="tiny", steps=1)
    path = tmp_path / "a.png"

    def late(handle, fsync=os.fsync):  # another program, after every look and before the name
        path.write_bytes(b"other")
        return fsync(handle)

    monkeypatch.setattr(os, "fsync", late)
    with pytest.raises(BadRequest, match="exists already"):
        picture.save(path)
    assert path.read_bytes() == b"other"


def test_public_names():
    assert set(darkroom.__all__) <= {*dir(darkroom), "Studio", "Picture"}
    with pytest.raises(AttributeError, match="nothing"):
        darkroom.nothing  # noqa: B018


def test_importing_the_package_does_not_import_torch():
    code = "import darkroom, sys; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
