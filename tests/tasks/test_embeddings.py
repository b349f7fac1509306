"""Prompts that name embeddings of every form of file make pictures, and recipes say with which."""

import base64
import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from darkroom.core.settings import Settings
from darkroom.jobs.worker import Worker
from darkroom.media.metadata import read_recipe

WIDTH = 64
torch.manual_seed(3)
ROWS = torch.randn(2, WIDTH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("user") / "data" / "embeddings"
    made.mkdir(parents=True)
    return made


@pytest.fixture(scope="module")
def worker(folder, checkpoint):
    torch.set_num_threads(1)
    return Worker(
        Settings(data_dir=folder.parent, models_dirs=(checkpoint.parent,), preview_seconds=0)
    )


@pytest.fixture
def make(worker, ask, tmp_path):
    """Run a prompt; returns its picture (pixels), its recipe, and the warnings."""

    def run(prompt):
        events = list(worker.run(ask(prompt=prompt), output=tmp_path / "out"))
        assert events[-1].kind == "done", events[-1].data
        (path,) = (Path(e.data["path"]) for e in events if e.kind == "artifact")
        said = [e.data["text"] for e in events if e.kind == "warning"]
        return np.asarray(Image.open(path)), read_recipe(path), said

    return run


def as_picture(path, **said):
    text = json.dumps({"string_to_param": {"*": {"TORCHTENSOR": ROWS.tolist()}}, **said})
    info = PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(text.encode()).decode())
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


WRITERS = {
    "easy.safetensors": lambda path: save_file({"emb_params": ROWS}, path),
    "easy.pt": lambda path: torch.save({"string_to_param": {"*": ROWS}, "name": "x"}, path),
    "easy.bin": lambda path: torch.save(
        {"<easy>": ROWS}, path, _use_new_zipfile_serialization=False
    ),
    "easy.png": as_picture,
}


@pytest.fixture
def written(folder):
    def write(name):
        path = folder / name
        WRITERS[name](path)
        return path

    yield write
    for path in folder.iterdir():
        path.unlink()


def test_every_form_of_file_makes_the_same_picture(make, written):
    words, recipe, _ = make("an easy apple")
    assert recipe.used("embedding") == []
    pictures = []
    for name in WRITERS:
        path = written(name)
        pixels, recipe, said = make("an easy apple")
        (used,) = recipe.used("embedding")
        assert (used.name, said) == ("easy", [])
        assert used.sha256 == sha256(path.read_bytes()).hexdigest()
        pictures.append(pixels)
        path.unlink()
    assert not np.array_equal(pictures[0], words)
    assert all(np.array_equal(pictures[0], other) for other in pictures[1:])


def test_the_name_in_a_picture_and_the_token_in_a_file_are_words_too(make, written, folder):
    written("easy.bin")
    as_picture(folder / "shown.png", name="inner")
    with_token, recipe, _ = make("an <easy> apple")
    assert [used.name for used in recipe.used("embedding")] == ["<easy>"]
    by_name, recipe, _ = make("an inner apple")
    assert [used.name for used in recipe.used("embedding")] == ["inner"]
    assert np.array_equal(with_token, by_name)


def test_a_picture_beside_an_embedding_does_not_hide_it(make, written, folder):
    Image.new("RGB", (8, 8)).save(folder / "easy.png")
    Image.new("RGB", (8, 8)).save(folder / "apple.png")
    written("easy.pt")
    _, recipe, said = make("an easy apple")
    assert [used.name for used in recipe.used("embedding")] == ["easy"]
    assert said == []


def test_a_file_that_would_run_code_is_words_and_is_said(make, folder, written):
    class Runs:
        def __reduce__(self):
            return print, ("it ran",)

    torch.save({"string_to_param": {"*": ROWS}, "name": Runs()}, folder / "easy.pt")
    _, recipe, said = make("an easy apple")
    assert recipe.used("embedding") == []
    assert any("'easy' is read as words" in text and "code" in text for text in said)
