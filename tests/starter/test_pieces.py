"""State that travels in pieces arrives whole, replaces nothing, and is refused when damaged."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from starter import pieces


@pytest.fixture
def travel(tmp_path, monkeypatch):
    """Two work folders, and a way to be on one of them."""

    def at(name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(pieces, "WORK", folder)
        return folder

    monkeypatch.setattr(pieces, "LARGEST", 1000)
    return at


def test_weights_arrive_in_half_precision_and_what_is_there_stays(travel, tmp_path):
    here = travel("here")
    weights = {"a": torch.linspace(-1, 1, 999)}
    save_file(weights, here / "ema.safetensors")
    (here / "progress.json").write_text("{}")
    pieces.write(tmp_path / "carried")
    assert len(list((tmp_path / "carried").glob("state.*"))) > 2

    there = travel("there")
    (there / "progress.json").write_text("kept")
    pieces.read(tmp_path / "carried")
    assert torch.equal(load_file(there / "ema.safetensors")["a"], weights["a"].half())
    assert (there / "progress.json").read_text() == "kept"


def test_a_tuned_decoder_stands_for_the_first_one(travel, tmp_path):
    here = travel("here")
    for name, value in (("vae.safetensors", 1.0), ("vae_tuned.safetensors", 2.0)):
        save_file({"a": torch.tensor([value])}, here / name)
    pieces.write(tmp_path / "carried")
    there = travel("there")
    pieces.read(tmp_path / "carried")
    assert load_file(there / "vae.safetensors")["a"].item() == 2.0


def test_a_piece_that_is_missing_is_said(travel, tmp_path):
    here = travel("here")
    save_file({"a": torch.zeros(2000)}, here / "ema.safetensors")
    pieces.write(tmp_path / "carried")
    (tmp_path / "carried" / "state.1").unlink()
    travel("there")
    with pytest.raises(SystemExit, match="not complete"):
        pieces.read(tmp_path / "carried")


def test_weights_that_do_not_fit_half_precision_are_refused(travel, tmp_path):
    save_file({"a": torch.tensor([1e6])}, travel("here") / "ema.safetensors")
    with pytest.raises(SystemExit, match="half precision"):
        pieces.write(tmp_path / "carried")
