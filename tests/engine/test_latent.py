import json
from types import SimpleNamespace

import pytest
import torch

from darkroom.core.model import Arch, Kind, ModelCard, Prediction, Variant
from darkroom.engine.latent import SD_PREVIEW, decode, encode, to_bytes
from darkroom.engine.loading import preview_matrix


def card(**metadata):
    return ModelCard(
        sha256="0" * 64,
        path="x",
        name="x",
        kind=Kind.CHECKPOINT,
        arch=Arch.SD1,
        variant=Variant.BASE,
        prediction=Prediction.EPS,
        bytes=1,
        native_size=64,
        metadata=metadata,
    )


class Enlarge:
    """A decoder that is known: each latent pixel becomes 8 x 8 pixels of its first channels."""

    def __init__(self):
        self.sizes = []

    def decode(self, latent, return_dict):
        self.sizes.append(tuple(latent.shape[-2:]))
        return (latent.repeat_interleave(8, -1).repeat_interleave(8, -2)[:, :3],)

    def parameters(self):
        return iter([torch.zeros(1)])


@pytest.mark.parametrize("size", [(20, 50), (64, 64), (65, 17)])
@pytest.mark.parametrize("tile", [16, 32])
def test_tiles_are_no_larger_than_asked_and_blend_to_the_whole(size, tile):
    vae, latents = Enlarge(), torch.randn(2, 4, *size)
    tiled = decode(vae, latents, scale=0.5, tile=tile)
    assert max(max(s) for s in vae.sizes) <= tile
    assert torch.allclose(tiled, decode(Enlarge(), latents, scale=0.5, tile=None), atol=1e-5)


class Shrink:
    """An encoder that is known: each 8 x 8 pixels become their mean, and a channel of ones."""

    def __init__(self):
        self.sizes = []

    def encode(self, pixels, return_dict):
        self.sizes.append(tuple(pixels.shape[-2:]))
        mean = torch.nn.functional.avg_pool2d(pixels, 8)
        return (SimpleNamespace(mean=torch.cat([mean, torch.ones_like(mean[:, :1])], 1)),)

    def parameters(self):
        return iter([torch.zeros(1)])


@pytest.mark.parametrize("size", [(20, 50), (64, 64), (65, 17), (16, 16)])
@pytest.mark.parametrize("tile", [16, 32])
def test_a_picture_is_encoded_in_tiles_that_blend_to_the_whole(size, tile):
    vae, pixels = Shrink(), torch.randn(2, 3, *(8 * side for side in size))
    tiled = encode(vae, pixels, scale=0.5, tile=tile)
    assert max(max(s) for s in vae.sizes) <= 8 * tile
    assert tiled.shape == (2, 4, *size)
    assert torch.allclose(tiled, encode(Shrink(), pixels, scale=0.5, tile=None), atol=1e-5)
    assert torch.allclose(tiled[:, 3], torch.full(size, 0.5))  # scaled


def test_the_scale_is_taken_off():
    out = decode(Enlarge(), torch.full((1, 4, 2, 2), 0.18215), scale=0.18215, tile=None)
    assert torch.allclose(out, torch.ones(1, 3, 16, 16))


def test_pixels_are_truncated_as_in_a1111():
    row = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 7.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_bytes(row)[0, 0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_a_model_brings_its_own_matrix_for_colours_from_0_to_1():
    rows = [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0, 0, 0], [0.5, 0.5, 0.5]]
    own = preview_matrix(card(**{"darkroom.latent_rgb": json.dumps(rows)}))
    assert own.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("text", ["", "[", "[[1]]", "null", '[["x"]]', "[" * 100_000, "[[NaN]]"])
def test_a_broken_matrix_falls_back(text):
    assert torch.equal(
        preview_matrix(card(**{"darkroom.latent_rgb": text})), torch.tensor(SD_PREVIEW)
    )
