"""What a run is given of a picture: latents, masks in latent pixels, and what networks see beside.

The networks are tiny and random; what is checked is exact whatever they compute.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bench.make_checkpoint import KINDS, make_checkpoint
from bench.parity import card_of
from darkroom.core.request import ResolvedRequest
from darkroom.engine.device import choose_device
from darkroom.engine.engine import Engine
from darkroom.sampling import Soft, differential, evenly
from darkroom.tasks.canvas import Canvas
from darkroom.tasks.networks import worn
from darkroom.tasks.rig import Rig, to_unit
from darkroom.tasks.seeds import seeds_of
from darkroom.tasks.start import NOTHING, start_of, taken
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header

torch.set_num_threads(1)
FILE = "sha256:" + "0" * 64
SIDE = 64


@pytest.fixture(scope="module")
def rigs(tmp_path_factory):
    """A rig of a base, an inpainting and an edit model."""
    folder, engine, made = (
        tmp_path_factory.mktemp("rigs"),
        Engine(choose_device("cpu"), cache_bytes=1 << 30),
        {},
    )

    def rig(kind):
        if kind not in made:
            path = folder / f"{kind}.safetensors"
            family = KINDS[kind].tiny()
            make_checkpoint(path, family.layout(), metadata=family.metadata())
            model = engine.model(card_of(path, detect(read_header(path))))
            with worn(engine, model, files={}, shelf=engine.shelf({})) as networks:
                made[kind] = Rig(engine, model, networks)
        return made[kind]

    return rig


@pytest.fixture
def rig(rigs):
    return rigs("sd15")


def request(init=None, mask=None, **fields):
    blocks = {"init": {"image": FILE, **(init or {})}}
    if mask is not None:
        blocks["mask"] = mask
    return ResolvedRequest.model_validate(
        {
            "prompt": "x", "width": SIDE, "height": SIDE, "steps": 4, "cfg_scale": 5.0, "seed": 3,
            **blocks, **fields,
        }
    )  # fmt: skip


def picture(width=SIDE, height=SIDE):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def halved(width=SIDE, height=SIDE, light=255, dark=0):
    """A mask whose right half is light."""
    mask = Image.new("L", (width, height), dark)
    mask.paste(light, (width // 2, 0, width, height))
    return mask


def test_without_a_picture_nothing_is_given(rig):
    plain = request().model_copy(update={"init": None})
    assert start_of(rig, plain, None, images=range(1)) is NOTHING


def test_a_picture_is_encoded_and_the_request_says_the_rest(rig):
    asked = request(
        {"strength": 0.4, "exact_steps": True, "noise_multiplier": 0.9, "extra_noise": 0.1}
    )
    start = start_of(rig, asked, Canvas(picture=picture()), images=range(2))
    assert torch.equal(start.clean, rig.encode(picture()))
    assert (start.strength, start.exact) == (0.4, True)
    assert (start.noise_scale, start.extra_noise) == (0.9, 0.1)
    assert start.mask is None and start.beside is None and start.mix is evenly


def test_strength_0_makes_no_step_and_adds_nothing(rig):
    asked = request({"strength": 0, "extra_noise": 0.5})
    start = start_of(rig, asked, Canvas(picture=picture()), images=range(1))
    assert start.exact and start.extra_noise == 0


def test_a_picture_of_another_size_is_stretched_as_a_latent(rig):
    wide = picture(128, 64)
    start = start_of(rig, request({"resize": "latent"}), Canvas(picture=wide), images=range(1))
    wanted = torch.nn.functional.interpolate(rig.encode(wide), (8, 8), mode="bilinear")
    assert torch.equal(start.clean, wanted)


def test_a_photo_that_is_stretched_as_a_latent_is_encoded_in_pieces(rig, monkeypatch):
    """The plan has memory for the size that was asked for, not for that of the photo."""
    seen, whole = [], rig.model.vae.module.encode

    def encode(pixels, **more):
        seen.append(max(pixels.shape[-2:]))
        return whole(pixels, **more)

    monkeypatch.setattr(rig.model.vae.module, "encode", encode)
    large = Canvas(picture=picture(1032, 520))
    start = start_of(rig, request({"resize": "latent"}), large, images=range(1))
    assert max(seen) == 512
    assert start.clean.shape[-2:] == (8, 8)


def test_a_hard_mask_is_black_or_white_and_others_keep_their_grey(rig):
    mask = halved(light=200, dark=40)
    for softness, mix in (("hard", evenly), ("differential", differential), ("soft", Soft())):
        asked = request(mask={"softness": softness})
        start = start_of(rig, asked, Canvas(picture=picture(), mask=mask), images=range(1))
        assert start.mask.shape == (1, 1, 8, 8) and start.mix == mix
        ends = [0, 1] if softness == "hard" else [40 / 255, 200 / 255]
        assert start.mask[0, 0, :, 0].tolist() == pytest.approx([ends[0]] * 8)
        assert start.mask[0, 0, :, 7].tolist() == pytest.approx([ends[1]] * 8)


def test_soft_inpainting_has_the_numbers_of_the_request(rig):
    fields = {"softness": "soft", "soft_power": 2, "soft_scale": 0.3, "soft_detail": 8}
    canvas = Canvas(picture=picture(), mask=halved())
    start = start_of(rig, request(mask=fields), canvas, images=range(1))
    assert start.mix == Soft(power=2, scale=0.3, detail=8)


@pytest.mark.parametrize("fill", ["fill", "original", "latent noise", "latent nothing"])
def test_the_masked_part_begins_with_what_was_asked_for(rig, fill):
    """Noise is that of the run itself, so that each picture has its own."""
    asked, canvas = request(mask={"fill": fill}), Canvas(picture=picture(), mask=halved())
    start = start_of(rig, asked, canvas, images=range(1, 3))
    clean = start.clean.expand(2, -1, -1, -1)
    encoded = rig.encode(picture()).expand_as(clean)
    noise = seeds_of(asked, range(1, 3)).start((0.1, 1.0)).first(encoded)
    wanted = {"latent noise": noise, "latent nothing": 0 * noise}.get(fill, encoded)
    assert torch.equal(clean[..., :4], encoded[..., :4])
    assert torch.equal(clean[..., 4:], wanted[..., 4:])


@pytest.mark.parametrize("fill", ["fill", "original"])
def test_a_larger_picture_comes_up_to_the_old_one_from_afar(rig, fill):
    asked = request(outpaint={"right": 96, "fill": fill}, width=128)
    mask = Image.new("L", (128, SIDE), 255)
    mask.paste(0, (0, 0, 32, SIDE))
    start = start_of(rig, asked, Canvas(picture=picture(128), mask=mask), images=range(1))
    assert start.mix is differential
    row = [0] * 4 + [ring / 8 for ring in range(1, 9)] + [1] * 4
    assert torch.allclose(start.mask, torch.tensor(row).expand(1, 1, 8, 16))


def test_a_small_margin_is_all_the_same_painted_to_the_full_at_its_end(rig):
    asked, canvas = request(outpaint={"right": 32}), Canvas(picture=picture(), mask=halved())
    start = start_of(rig, asked, canvas, images=range(1))
    assert start.mask[0, 0, 0].tolist() == [0] * 4 + [0.25, 0.5, 0.75, 1]


def test_a_margin_of_less_than_a_latent_pixel_paints_nothing(rig):
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, 1, SIDE))
    asked = request(outpaint={"left": 1})
    start = start_of(rig, asked, Canvas(picture=picture(), mask=mask), images=range(1))
    assert not start.mask.any()


@pytest.mark.parametrize(("kind", "fill"), [("sd15", "latent noise"), ("inpaint", "fill")])
def test_what_begins_with_noise_or_sees_the_picture_need_not_approach_it(rigs, kind, fill):
    asked, canvas = (
        request(outpaint={"right": 32, "fill": fill}),
        Canvas(picture=picture(), mask=halved()),
    )
    start = start_of(rigs(kind), asked, canvas, images=range(1))
    assert start.mix is evenly and start.mask.unique().tolist() == [0, 1]


def test_an_inpainting_model_sees_the_mask_and_the_picture_with_grey_behind_it(rigs):
    rig, mask = rigs("inpaint"), halved()
    start = start_of(rig, request(mask={}), Canvas(picture=picture(), mask=mask), images=range(1))
    assert start.beside.shape == (1, 5, 8, 8)
    assert torch.equal(start.beside[:, :1], start.mask)
    pixels = to_unit(picture())
    pixels[..., SIDE // 2 :] = 0
    assert torch.equal(start.beside[:, 1:], rig.fitting.encode(pixels))
    assert start_of(rig, request(), Canvas(picture=picture()), images=range(1)).beside is None


def test_an_edit_model_sees_the_latent_as_the_encoder_gives_it(rigs):
    rig = rigs("edit")
    start = start_of(rig, request(), Canvas(picture=picture()), images=range(1))
    with torch.no_grad():
        mean = rig.model.vae.module.encode(to_unit(picture())).latent_dist.mean
    assert torch.allclose(start.beside, mean, atol=1e-5)


def test_what_is_taken_of_a_soft_result_is_what_changed_and_nothing_outside_of_the_mask(rig):
    asked, canvas = request(mask={"softness": "soft"}), Canvas(picture=picture(), mask=halved())
    clean = rig.encode(canvas.picture)[0]
    same = taken(rig, asked, canvas, clean)
    assert same.size == (SIDE, SIDE) and same.getextrema() == (0, 0)
    other = np.array(taken(rig, asked, canvas, clean + 5))
    assert not other[:, : SIDE // 2].any() and (other[:, SIDE // 2 :] > 250).all()


def test_of_a_differential_result_all_is_taken_that_was_freed(rig):
    asked, mask = request(mask={"softness": "differential"}), halved(light=128)
    canvas = Canvas(picture=picture(), mask=mask)
    found = np.array(taken(rig, asked, canvas, torch.zeros(4, 8, 8)))
    assert (found[:, SIDE // 2 :] == 255).all() and not found[:, : SIDE // 2].any()
    assert taken(rig, request(mask={}), canvas, torch.zeros(4, 8, 8)) is None
    assert taken(rig, request(), Canvas(picture=picture()), torch.zeros(4, 8, 8)) is None


def test_of_a_result_of_a_second_run_the_same_is_taken(rig):
    asked, canvas = request(mask={"softness": "soft"}), Canvas(picture=picture(), mask=halved())
    larger = torch.nn.functional.interpolate(rig.encode(canvas.picture), (16, 16), mode="bilinear")
    assert taken(rig, asked, canvas, larger[0]).getextrema()[1] < 40


def test_rows_are_those_of_some_pictures():
    many = replace(NOTHING, clean=torch.arange(3.0).view(3, 1, 1, 1))
    assert many.rows(1, 3).clean.flatten().tolist() == [1, 2]
    one = replace(NOTHING, clean=torch.zeros(1, 1, 1, 1))
    assert one.rows(1, 3) is one and NOTHING.rows(0, 1) is NOTHING
