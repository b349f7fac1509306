"""Previews: by the matrix, by TAESD as diffusers builds it, by VAE-approx; never too large."""

import pytest
import torch
from diffusers.models.autoencoders.vae import DecoderTiny
from torch.nn import functional

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.engine.device import choose_device
from darkroom.engine.latent import to_bytes
from darkroom.engine.preview import PreviewDecoder, by_matrix, load_preview, smaller
from darkroom.engine.tiny import Approx
from preview_files import APPROX, approx_state, tiny_state, written


@pytest.fixture(scope="module")
def device():
    return choose_device("cpu")


def card(path):
    return ModelCard(
        sha256="0" * 64, path=str(path), name="x", kind=Kind.PREVIEW, arch=Arch.SD1, bytes=1
    )


def test_the_matrix_shows_the_colours_of_the_latent_at_the_size_of_the_picture():
    matrix = torch.zeros(5, 3)
    matrix[0, 0], matrix[-1] = 2.0, -1.0
    latent = torch.zeros(4, 16, 24)
    latent[0, :, 12:] = 1.0
    shown = by_matrix(latent, matrix)
    assert shown.shape == (128, 192, 3)
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[0, -1].tolist() == [255, 0, 0]


def test_the_preview_of_a_huge_picture_stays_small(device):
    assert max(by_matrix(torch.zeros(4, 128, 256), torch.zeros(5, 3)).shape) == 512
    assert max(by_matrix(torch.zeros(4, 1024, 1024), torch.zeros(5, 3)).shape) == 1024
    assert smaller(torch.zeros(1024, 768, 3, dtype=torch.uint8)).shape == (512, 384, 3)
    assert smaller(torch.zeros(1032, 768, 3, dtype=torch.uint8)).shape == (344, 256, 3)
    picture = torch.randint(0, 256, (512, 256, 3), dtype=torch.uint8)
    assert torch.equal(smaller(picture), picture)
    enlarge = PreviewDecoder(EightTimes(), device, factor=8)
    assert enlarge(torch.zeros(4, 66, 130)).shape == (198, 390, 3)


class EightTimes(torch.nn.Module):
    """Each latent pixel becomes 8 x 8 of its first channels."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.sizes = []

    def forward(self, latents):
        self.sizes.append(max(latents.shape[-2:]))
        return functional.interpolate(latents[:, :3], scale_factor=8)


def test_large_latents_are_decoded_in_tiles(device):
    network = EightTimes()
    latent = torch.linspace(-1, 1, 80).expand(4, 70, 80)
    shown = PreviewDecoder(network, device, factor=8)(latent)
    assert max(network.sizes) == 64 and len(network.sizes) == 4
    assert torch.equal(
        shown, to_bytes(latent[None, :3].repeat_interleave(6, -1).repeat_interleave(6, -2))[0]
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_taesd_is_what_diffusers_makes_of_it(tmp_path, device, suffix):
    torch.manual_seed(0)
    theirs = DecoderTiny(4, 3, (2, 1, 1, 1), (16,) * 4, 2, "relu", "nearest").eval()
    state = {f"decoder.{name}": value.detach() for name, value in theirs.state_dict().items()}
    path = written(tmp_path / f"taesd{suffix}", state)
    latent = 3 * torch.randn(4, 10, 7)
    shown = load_preview(card(path), device)(latent)
    with torch.inference_mode():
        assert torch.equal(shown, to_bytes(theirs(latent[None]))[0])


def test_ours_in_half_precision_is_read(tmp_path, device):
    state = {name: value.half() for name, value in tiny_state().items()}
    shown = load_preview(card(written(tmp_path / "p.safetensors", state)), device)(
        torch.ones(4, 8, 8)
    )
    assert shown.shape == (64, 64, 3) and shown.dtype is torch.uint8


def test_vae_approx_doubles_the_latent_and_is_shown_at_the_size_of_the_picture(tmp_path, device):
    network = Approx(APPROX)
    assert network.border == 11
    assert network(torch.zeros(1, 4, 5, 9)).shape == (1, 3, 10, 18)
    path = written(tmp_path / "model.pt", approx_state())
    assert load_preview(card(path), device)(torch.ones(4, 8, 6)).shape == (64, 48, 3)


def test_a_file_that_is_none_is_refused(tmp_path, device):
    path = written(tmp_path / "p.safetensors", {"0.weight": torch.zeros(8, 3, 3, 3)})
    with pytest.raises(BadFile, match="only the encoder"):
        load_preview(card(path), device)
