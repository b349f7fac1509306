"""Prompts that ask for hypernetworks: what they change, what they leave, what recipes say."""

import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.core.settings import Settings
from darkroom.jobs.worker import Worker
from darkroom.media.metadata import read_recipe

TEXT = 64  # width of the tiny model's text
REAL = 320  # a width that the tiny model lacks
HIDDEN = 8


def write(path, *widths, seed=0):
    torch.manual_seed(seed)

    def f(width):
        return {
            "linear.0.weight": 0.4 * torch.randn(HIDDEN, width),
            "linear.0.bias": torch.zeros(HIDDEN),
            "linear.2.weight": 0.4 * torch.randn(width, HIDDEN),
            "linear.2.bias": torch.zeros(width),
        }

    said = {"name": "bend", "step": 100, "activation_func": "relu", "activate_output": False}
    torch.save({width: (f(width), f(width)) for width in widths} | said, path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bends")
    write(folder / "bend.pt", TEXT, 32, REAL)
    write(folder / "other.pt", TEXT, REAL, seed=1)
    write(folder / "small.pt", TEXT, seed=2)
    write(folder / "foreign.pt", 2048)
    return folder


@pytest.fixture(scope="module")
def worker(files, checkpoint):
    torch.set_num_threads(1)
    folders = (checkpoint.parent, files)
    return Worker(Settings(data_dir=files / "data", models_dirs=folders, preview_seconds=0))


@pytest.fixture
def run(worker, ask, tmp_path):
    def run(prompt):
        events = list(worker.run(ask(prompt=prompt), output=tmp_path / "out"))
        if events[-1].kind == "failed":
            return None, None, events[-1].data["text"]
        (path,) = (Path(e.data["path"]) for e in events if e.kind == "artifact")
        return np.asarray(Image.open(path)), read_recipe(path), ""

    return run


def same(a, b):
    return np.array_equal(a[0], b[0])


def test_a_tag_bends_this_picture_and_no_other(run, files):
    before = run("an apple")
    bent = run("an apple <hypernet:bend:0.8>")
    assert not same(before, bent)
    assert not same(bent, run("an apple <hypernet:bend:0.4>"))
    assert same(bent, run("an apple <hypernet:bend:0.8>"))
    assert same(before, run("an apple"))
    (used,) = bent[1].used("hypernetwork")
    assert used.sha256 == sha256((files / "bend.pt").read_bytes()).hexdigest()


def test_one_for_a_small_model_alone_works_and_the_start_says_its_reach(run, worker, ask, tmp_path):
    assert not same(run("an apple"), run("an apple <hypernet:small:0.8>"))
    request = ask(prompt="an apple <hypernet:small:0.8>")
    (started, *_) = worker.run(request, output=tmp_path / "out")
    (text,) = started.data["networks"]
    assert re.fullmatch(r"<hypernet:small> [1-9]\d* attentions", text)


def test_strength_zero_is_not_there(run):
    assert same(run("an apple"), run("an apple <hypernet:bend:0>"))


def test_two_follow_each_other(run):
    both = run("an apple <hypernet:bend:0.8> <hypernet:other:0.8>")
    assert not same(both, run("an apple <hypernet:bend:0.8>"))
    assert [used.name for used in both[1].used("hypernetwork")] == ["bend", "other"]


def test_one_of_another_family_fails_and_leaves_nothing(run):
    before = run("an apple")
    told = run("an apple <hypernet:bend:1> <hypernet:foreign:1>")[2]
    assert "contexts 2048 wide" in told
    assert same(before, run("an apple"))


def test_an_unknown_one_is_named(run):
    assert "hypernetwork 'bent'" in run("an apple <hypernet:bent:1>")[2]
