"""What each family's network is given, and its latents against diffusers' own pipelines."""

import contextlib

import pytest
import torch

from bench.make_checkpoint import KINDS, make_checkpoint
from bench.parity import card_of, error
from darkroom.core.model import Arch
from darkroom.core.recipe import resolve
from darkroom.core.request import ImageRequest
from darkroom.engine.device import choose_device
from darkroom.engine.engine import Engine
from darkroom.engine.run import Frame
from darkroom.sampling import At, Guidance
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A tiny checkpoint of each family, made when it is asked for."""
    folder, made = tmp_path_factory.mktemp("families"), {}

    def path(kind):
        if kind not in made:
            made[kind] = folder / f"{kind}.safetensors"
            family = KINDS[kind].tiny()
            make_checkpoint(made[kind], family.layout(), metadata=family.metadata())
        return made[kind]

    return path


@pytest.fixture(scope="module")
def engine():
    return Engine(choose_device("cpu"), cache_bytes=1 << 30)


def card(path):
    return card_of(path, detect(read_header(path)))


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl", "inpaint", "edit"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # diffusers' own
def test_latents_are_those_of_diffusers_own_pipeline(files, kind):
    """Same file, read by their tables; same noise; prompts encoded by transformers."""
    pytest.importorskip("transformers")
    with contextlib.redirect_stderr(None):
        assert error(files(kind), side=64, steps=3) < 1e-4


class Recorded:
    """Stands in for the UNet and keeps what it was called with."""

    def __init__(self, unet):
        self.conv_in, self.calls = unet.conv_in, []

    def __call__(self, x, t, tokens, *, added_cond_kwargs, return_dict):
        self.calls.append((x, t, tokens, added_cond_kwargs))
        return (torch.zeros_like(x[:, :4]),)


def called(
    engine, path, monkeypatch, *, size=(64, 128), prompt="a cat", negative="", batch=1, **given
):
    """What the network of `path` is given in one guided call for a picture of that size.

    `given` are `beside` of the frame, and `image_scale` of the guidance.
    """
    beside, image_scale = given.get("beside"), given.get("image_scale", 1.0)
    model = engine.model(card(path))
    width, height = size
    request = resolve(
        ImageRequest.parse(
            {"prompt": prompt, "negative_prompt": negative, "width": width, "height": height}
        ),
        model.card,
    )
    script = engine.script(model, request, say=print)
    recorded = Recorded(model.networks.unet)
    frame = Frame(table=engine.table(model, request), batch=batch, beside=beside)
    guidance = Guidance(scale=7.0, image_scale=image_scale)
    denoise = engine.denoiser(model, script, guidance, frame=frame, say=print)
    monkeypatch.setattr(type(model.networks.unet), "__call__", lambda _, *a, **k: recorded(*a, **k))
    denoise(torch.randn(batch, 4, height // 8, width // 8), At(2.0, 0.0))
    return recorded.calls, script


def test_sdxl_is_told_the_sizes_and_the_text_as_a_whole(engine, files, monkeypatch):
    """Heights before widths: original size, crop, the size to make."""
    calls, script = called(engine, files("sdxl"), monkeypatch, batch=2, negative="a dog")
    ((x, _, tokens, added),) = calls
    assert x.shape == (4, 4, 16, 8) and tokens.shape == (4, 77, 128)
    assert added["time_ids"].tolist() == [[128.0, 64.0, 0.0, 0.0, 128.0, 64.0]] * 4
    positive, negative = script.parts[0].at(0), script.negative.at(0)
    wanted = torch.cat([positive.pooled] * 2 + [negative.pooled] * 2)
    assert torch.equal(added["text_embeds"], wanted)
    assert not torch.equal(wanted[0], wanted[2])


def test_the_refiner_is_told_what_looks_good_and_what_does_not(engine, files, monkeypatch):
    calls, _ = called(engine, files("refiner"), monkeypatch)
    ((_, _, tokens, added),) = calls
    assert added["time_ids"].tolist() == [[128.0, 64.0, 0, 0, 6.0], [128.0, 64.0, 0, 0, 2.5]]
    assert tokens.shape == (2, 77, 64)
    assert not tokens[1].any() and not added["text_embeds"][1].any()  # nothing was to be avoided
    assert tokens[0].any() and added["text_embeds"][0].any()


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_sd1_and_sd2_are_told_nothing_more(engine, files, monkeypatch, kind):
    ((x, _, tokens, added),), _ = called(engine, files(kind), monkeypatch)
    assert x.shape == (2, 4, 16, 8) and not added
    assert tokens[1].any()  # the empty prompt is words there


def test_without_a_picture_an_inpainting_model_sees_all_masked_before_grey(
    engine, files, monkeypatch
):
    ((x, *_),), _ = called(engine, files("inpaint"), monkeypatch, batch=2)
    assert x.shape == (4, 9, 16, 8)
    assert torch.equal(x[:, 4:5], torch.ones(4, 1, 16, 8))
    vae = engine.model(card(files("inpaint"))).vae
    with torch.no_grad():
        grey = vae.module.encode(torch.zeros(1, 3, 128, 64)).latent_dist.mean * 0.18215
    for row in x[:, 5:]:
        torch.testing.assert_close(row, grey[0])


def test_the_grey_picture_is_encoded_once_per_size(engine, files, monkeypatch):
    model = engine.model(card(files("inpaint")))
    encoded = []
    encode = type(model.vae.module).encode
    monkeypatch.setattr(
        type(model.vae.module),
        "encode",
        lambda self, x, **more: encoded.append(x.shape) or encode(self, x, **more),
    )
    for size in ((192, 64), (192, 64), (64, 192)):
        called(engine, files("inpaint"), monkeypatch, size=size)
    assert encoded == [(1, 3, 64, 192), (1, 3, 192, 64)]


def test_without_a_picture_an_editing_model_edits_nothing(engine, files, monkeypatch):
    ((x, *_),), _ = called(engine, files("edit"), monkeypatch)
    assert x.shape == (2, 8, 16, 8)
    assert x[:, :4].any() and not x[:, 4:].any()


@pytest.mark.parametrize(("kind", "channels"), [("inpaint", 5), ("edit", 4)])
def test_a_network_sees_what_it_is_given_beside_every_picture_of_the_batch(
    engine, files, monkeypatch, kind, channels
):
    given = torch.randn(1, channels, 16, 8)
    ((x, *_),), _ = called(engine, files(kind), monkeypatch, batch=2, beside=given)
    assert x.shape == (4, 4 + channels, 16, 8)
    assert torch.equal(x[:, 4:], given.expand(4, -1, -1, -1))


def test_an_editing_model_is_asked_once_more_without_the_picture(engine, files, monkeypatch):
    given = torch.randn(1, 4, 16, 8)
    calls, script = called(engine, files("edit"), monkeypatch, beside=given, image_scale=1.5)
    (both, _, words, _), (blind, _, empty, _) = calls
    assert torch.equal(both[:, 4:], given.expand(2, -1, -1, -1)) and not blind[:, 4:].any()
    assert torch.equal(empty, script.negative.at(0).tokens) and torch.equal(empty, words[1:])


def test_other_models_know_no_image_scale(engine, files, monkeypatch):
    calls, _ = called(engine, files("sd15"), monkeypatch, image_scale=1.5)
    assert len(calls) == 1


def test_parts_joined_by_and_are_asked_one_by_one(engine, files, monkeypatch):
    calls, script = called(engine, files("sdxl"), monkeypatch, prompt="a cat AND a dog :0.5")
    assert [x.shape[0] for x, *_ in calls] == [1, 1, 1]
    given = [added["text_embeds"] for *_, added in calls]
    wanted = [part.at(0).pooled for part in (*script.parts, script.negative)]
    assert all(any(torch.equal(a, b) for b in given) for a in wanted)


def test_prompts_of_different_length_are_asked_apart(engine, files, monkeypatch):
    calls, _ = called(engine, files("sdxl"), monkeypatch, prompt="cat " * 80)
    assert sorted(tokens.shape[1] for _, _, tokens, _ in calls) == [77, 154]


def test_each_family_has_its_own_preview_colours_and_noise_table(engine, files):
    one, two = (engine.model(card(files(kind))) for kind in ("sd15", "sdxl"))
    assert one.networks.detected.arch is Arch.SD1 and two.networks.detected.arch is Arch.SDXL
    assert one.preview.shape == two.preview.shape == (5, 3)
    assert not torch.equal(one.preview, two.preview)
    assert one.table.high == two.table.high
