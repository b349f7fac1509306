"""Embeddings: every safetensors form that users have, and words for what is none."""

import pytest
import torch
from safetensors.torch import save_file

from darkroom.core.errors import BadFile
from darkroom.weights.embedding import read_embedding


@pytest.fixture
def file(tmp_path):
    def make(**tensors):
        path = tmp_path / "easy.safetensors"
        save_file(tensors, path)
        return path

    return make


ROWS = torch.arange(24, dtype=torch.float32).reshape(3, 8)


@pytest.mark.parametrize("name", ["emb_params", "<cat-toy>", "clip_l"])
def test_the_vectors_are_found_under_any_name(file, name):
    assert torch.equal(read_embedding(file(**{name: ROWS}), 8), ROWS)


def test_one_vector_may_be_flat_and_in_half_precision(file):
    assert torch.equal(read_embedding(file(emb_params=ROWS[1].half()), 8), ROWS[1:2])


def test_of_a_file_for_two_encoders_the_fitting_tensor_is_taken(file):
    path = file(clip_l=ROWS, clip_g=torch.zeros(3, 12))
    assert torch.equal(read_embedding(path, 8), ROWS)
    assert read_embedding(path, 12).shape == (3, 12)


def test_an_embedding_of_another_family_is_named(file):
    with pytest.raises(BadFile, match="is for SDXL, not for this model"):
        read_embedding(file(clip_g=torch.zeros(2, 1280)), 768)


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": torch.zeros(2, 8), "b": torch.zeros(2, 8)},
        {"emb_params": torch.zeros(76, 8)},
        {"emb_params": torch.zeros(2, 2, 8)},
        {"emb_params": torch.zeros(2, 8, dtype=torch.int64)},
        {"model.diffusion_model.out.2.weight": torch.zeros(4, 8, 3, 3)},
    ],
    ids=["two", "many", "cube", "integers", "checkpoint"],
)
def test_what_is_no_embedding_is_refused(file, tensors):
    with pytest.raises(BadFile, match="not an embedding"):
        read_embedding(file(**tensors), 8)


def test_numbers_that_are_none_are_refused(file):
    with pytest.raises(BadFile, match="numbers that are none"):
        read_embedding(file(emb_params=torch.full((2, 8), float("nan"))), 8)


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "easy.pt"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(BadFile, match="pickle"):
        read_embedding(path, 8)
