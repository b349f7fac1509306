"""The flag `--preview`: refused early where it cannot be, and without effect on the picture."""

import pytest

from darkroom.library import previews
from preview_files import tiny_state, written


@pytest.fixture(autouse=True)
def none_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "shipped_path", lambda: tmp_path / "none")


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("tinny", "unknown preview decoder 'tinny'"),
        ("tiny", "no tiny preview decoder is for tiny"),
        ("TAESD", "no tiny preview decoder is for tiny"),
        ("mine", "mine was trained with the model whose SHA-256 begins with 5555555555"),
    ],
)
def test_what_cannot_be_is_refused_before_torch_is_loaded(call, tmp_path, monkeypatch, word, why):
    monkeypatch.setattr("darkroom.cli.running.work", None)
    folder = tmp_path / "data" / "models" / "VAE-approx"
    written(folder / "mine.safetensors", tiny_state(), {"darkroom.base": "5" * 64})
    result = call("txt2img", "a cat", "--model", "tiny", "--preview", word)
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_list_shows_decoders_under_their_kind(call, tmp_path):
    folder = tmp_path / "data" / "models" / "vae_approx"
    written(folder / "taesdxl_decoder.pth", tiny_state())
    result = call("models", "list", "--kind", "preview-decoder")
    assert "preview decoders:" in result.stdout and "SDXL" in result.stdout
