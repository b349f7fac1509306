"""A picture from every family, from the prompt to the file."""

import pytest
from PIL import Image

from bench.make_checkpoint import KINDS, make_checkpoint, make_folder
from darkroom.core.request import ImageRequest


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    for kind, family in KINDS.items():
        small = family.tiny()
        make_checkpoint(folder / f"{kind}.safetensors", small.layout(), metadata=small.metadata())
    make_folder(folder / "sdxl-folder", KINDS["sdxl"].tiny())
    return {kind: folder / f"{kind}.safetensors" for kind in KINDS} | {
        "folder": folder / "sdxl-folder"
    }


def made(worker, path, tmp_path, **fields):
    request = ImageRequest.parse(
        {
            "prompt": "a (cat:1.2), [sitting:standing:2] BREAK in the sun",
            "model": str(path), "width": 64, "height": 128, "steps": 3, "seed": 4, **fields,
        }
    )  # fmt: skip
    events = list(worker.run(request, output=tmp_path / "made.png"))
    assert events[-1].kind == "done", events[-1].data
    return Image.open(tmp_path / "made.png").convert("RGB")


@pytest.mark.parametrize("kind", [*KINDS, "folder"])
def test_every_family_makes_a_picture(worker, paths, tmp_path, kind):
    picture = made(worker, paths[kind], tmp_path)
    assert picture.size == (64, 128)
    assert len(picture.getcolors(64 * 128)) > 100  # noise, as its weights are


@pytest.mark.parametrize("fields", [{"clip_skip": 3}, {"negative_prompt": "a dog"}])
def test_what_sdxl_is_told_shows(worker, paths, tmp_path, fields):
    plain = made(worker, paths["sdxl"], tmp_path)
    (tmp_path / "made.png").unlink()
    assert made(worker, paths["sdxl"], tmp_path, **fields).tobytes() != plain.tobytes()


def test_clip_skip_2_is_sdxls_own(worker, paths, tmp_path):
    plain = made(worker, paths["sdxl"], tmp_path)
    (tmp_path / "made.png").unlink()
    assert made(worker, paths["sdxl"], tmp_path, clip_skip=2).tobytes() == plain.tobytes()
