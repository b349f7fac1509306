"""Convolutions that wrap: a UNet and a VAE that commute with rolling the picture have no edge."""

from dataclasses import replace

import pytest
import torch

from bench.parity import card_of
from darkroom.core.recipe import resolve
from darkroom.core.request import ImageRequest
from darkroom.engine.device import choose_device
from darkroom.engine.engine import Engine
from darkroom.engine.run import Frame
from darkroom.engine.seamless import cropped, seamless, wrapped
from darkroom.sampling import At, Guidance
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from tiny import tiny_checkpoint

torch.set_num_threads(1)
SIDE = 64  # pixels
ROLLS = {"x": (0, 4), "y": (4, 0), "both": (2, 4), "none": (0, 0)}  # rows, columns of latents


@pytest.fixture(scope="module")
def engine():
    return Engine(choose_device("cpu"), cache_bytes=1 << 30)


@pytest.fixture(scope="module")
def model(engine, tmp_path_factory):
    path = tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny.safetensors")
    return engine.model(card_of(path, detect(read_header(path))))


def asked(model, **fields):
    request = ImageRequest.parse(
        {"prompt": "moss", "width": SIDE, "height": SIDE, "steps": 2, "seed": 1, **fields}
    )
    return resolve(request, model.card)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def rolled(x, rolls, factor=1):
    """`x` (…, H, W) rolled."""
    return x.roll([factor * roll for roll in rolls], dims=(-2, -1))


def denoised(engine, model, request, x):
    frame = Frame(table=engine.table(model, request), batch=1, tiling=request.tiling)
    script = engine.script(model, request, say=print)
    return engine.denoiser(model, script, Guidance(scale=3.0), frame=frame, say=print)(
        x, At(3.0, 0.0)
    )


@pytest.mark.parametrize("tiling", ["x", "y", "both"])
def test_the_unet_commutes_with_rolling(engine, model, tiling):
    x, rolls = noise(1, 4, 8, 8), ROLLS[tiling]
    plain, wrapping = asked(model), asked(model, tiling=tiling)
    found = denoised(engine, model, wrapping, rolled(x, rolls))
    assert torch.allclose(found, rolled(denoised(engine, model, wrapping, x), rolls), atol=1e-4)
    moved = denoised(engine, model, plain, rolled(x, rolls))
    assert not torch.allclose(moved, rolled(denoised(engine, model, plain, x), rolls), atol=1e-2)


@pytest.mark.parametrize("tiling", ["x", "y"])
def test_the_other_axis_keeps_its_edge(engine, model, tiling):
    x, request = noise(1, 4, 8, 8), asked(model, tiling=tiling)
    rolls = ROLLS["y" if tiling == "x" else "x"]
    found = denoised(engine, model, request, rolled(x, rolls))
    assert not torch.allclose(found, rolled(denoised(engine, model, request, x), rolls), atol=1e-2)


@pytest.mark.parametrize("tiling", ["x", "y", "both"])
def test_decoding_commutes_with_rolling(engine, model, tiling):
    latent, rolls = 0.2 * noise(4, 8, 8), ROLLS[tiling]
    plan = engine.plan(model, asked(model, tiling=tiling))
    still, moved = (
        engine.decode(model, each, plan=plan, say=print).permute(2, 0, 1).float()
        for each in (latent, rolled(latent, rolls))
    )
    assert (moved - rolled(still, rolls, 8)).abs().max() <= 1  # of 255: rounding


@pytest.mark.parametrize("tiling", ["x", "y", "both"])
def test_encoding_commutes_with_rolling(engine, model, tiling):
    pixels, rolls = noise(1, 3, SIDE, SIDE).clamp(-1, 1), ROLLS[tiling]
    plan = engine.plan(model, asked(model, tiling=tiling))
    still, moved = (
        engine.encode(model, each, plan=plan, say=print)
        for each in (pixels, rolled(pixels, rolls, 8))
    )
    assert torch.allclose(moved, rolled(still, rolls), atol=1e-4)


@pytest.mark.parametrize("tiling", ["x", "both"])
def test_in_tiles_the_opposite_edge_is_seen(engine, model, tiling):
    """The same picture as in one piece, as nearly at the edges as in the middle."""
    latent = 0.2 * noise(4, 24, 24)
    whole = engine.plan(model, asked(model, tiling=tiling))
    tiled = replace(whole, tile=16)
    one, other = (
        engine.decode(model, latent, plan=plan, say=print).float() for plan in (whole, tiled)
    )
    assert one.shape == other.shape == (192, 192, 3)
    error = (one - other).abs().mean(dim=(0, 2))  # of each column
    assert error[:8].mean() < 1.5 * error[64:128].mean()
    encoded = engine.encode(model, noise(1, 3, 192, 192), plan=tiled, say=print)
    assert encoded.shape == (1, 4, 24, 24)


def test_a_network_is_its_own_again(model):
    unet, vae = model.networks.unet, model.vae.module
    before = {name: dict(each.__dict__) for name, each in unet.named_modules()}
    with pytest.raises(KeyboardInterrupt), seamless((unet, vae), "both"):
        assert "forward" in unet.conv_in.__dict__
        raise KeyboardInterrupt
    assert {name: dict(each.__dict__) for name, each in unet.named_modules()} == before
    with seamless((unet, vae), "none"):
        assert "forward" not in unet.conv_in.__dict__


@pytest.mark.parametrize("tiling", ["none", "x", "y", "both"])
def test_what_is_wrapped_is_cropped_again(tiling):
    x = noise(1, 2, 6, 5)
    around = wrapped(x, 3, tiling)
    assert torch.equal(cropped(around, 3, tiling), x)
    rows, columns = (6 if tiling in which else 0 for which in (("y", "both"), ("x", "both")))
    assert around.shape == (1, 2, 6 + rows, 5 + columns)
