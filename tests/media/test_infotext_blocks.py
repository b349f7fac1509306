"""Second runs, masks, refiners, details and upscaling, as A1111's texts tell of them."""

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.core.blocks import Detail
from darkroom.core.processing import CutoutRequest, UpscaleRequest
from darkroom.core.recipe import Recipe, UsedModel
from darkroom.core.request import ImageRequest, ResolvedRequest
from darkroom.media.image import Saving, save
from darkroom.media.metadata import detailer, drawn, find, infotext
from darkroom.media.metadata.a1111 import of_infotext
from darkroom.media.metadata.fields import request_fields

A, B = "a" * 64, "b" * 64
OPEN = {"width": 512, "height": 512, "steps": 20, "cfg_scale": 7, "seed": 1}


def written(*models, **blocks):
    request = ResolvedRequest.parse({"prompt": "a cat", **OPEN, **blocks})
    return infotext.write(Recipe(request=request, seed=1, models=models))


def found_in(text, **more):
    return of_infotext(infotext.read(f"a cat\nSteps: 20, Sampler: Euler a, Seed: 1, {text}"))


def fields(text, picture=None):
    return found_in(text).fields(picture)


def test_a_picture_of_a1111_with_a_second_run_gives_our_block():
    found = found_in(
        "Denoising strength: 0.45, Hires prompt: sharp, Hires upscale: 1.5, Hires steps: 12,"
        " Hires upscaler: 4x-UltraSharp, Hires sampler: DPM++ 2M Karras, Hires CFG Scale: 5,"
        ' Hires checkpoint: "big.safetensors [0123456789]", Size: 512x768, Version: v1.10.1'
    )
    assert found.left_out == []
    assert found.fields()["hires"] == {
        "scale": 1.5, "steps": 12, "upscaler": "4x-UltraSharp", "sampler": "DPM++ 2M",
        "scheduler": "Karras", "cfg_scale": 5.0, "model": "big", "strength": 0.45,
        "prompt": "sharp",
    }  # fmt: skip
    ImageRequest.parse(found.fields())


def test_what_a1111_says_of_the_second_run_that_is_as_the_first_is_not_asked_for():
    found = found_in(
        "Denoising strength: 0.7, Hires resize: 1024x0, Hires steps: 0, Hires upscaler: Latent,"
        " Hires sampler: Use same sampler, Hires checkpoint: Use same checkpoint,"
        " Hires Module 1: Use same choices"
    )
    assert found.fields()["hires"] == {"strength": 0.7, "width": 1024, "upscaler": "Latent"}
    assert found.left_out == []


def test_what_a1111_leaves_open_of_the_second_run_has_its_defaults_and_not_ours():
    assert fields("Hires upscale: 2")["hires"] == {
        "scale": 2.0, "upscaler": "Latent", "strength": 0.7,
    }  # fmt: skip
    said = fields("Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Lanczos")["hires"]
    assert said == {"scale": 2.0, "upscaler": "Lanczos", "strength": 0.5}


def test_the_refiner_is_a_block_and_none_of_it_without_its_name():
    said = fields('Refiner: "xl_refiner [8d0ce6c016]", Refiner switch at: 0.75')
    assert said["refiner"] == {"model": "xl_refiner", "switch_at": 0.75}
    nameless = found_in("Refiner switch at: 0.8")
    assert "refiner" not in nameless.fields()
    assert any("Refiner switch at: 0.8" in text for text in nameless.left_out)


def test_what_is_done_to_a_picture_is_told_where_the_picture_is_missing():
    text = (
        "Denoising strength: 0.6, Mask blur: 8, Mask mode: Inpaint not masked,"
        " Inpaint area: Only masked, Masked area padding: 40, Masked content: latent noise,"
        " Soft inpainting enabled: True, Soft inpainting schedule bias: 2, Noise multiplier: 0.9"
    )
    found = found_in(text)
    assert {"init", "mask", "hires"}.isdisjoint(found.fields())
    assert any("Mask blur: 8 (it began with a picture" in told for told in found.left_out)
    said = found.fields("photo.png")
    assert said["init"] == {"image": "photo.png", "strength": 0.6, "noise_multiplier": 0.9}
    assert said["mask"] == {
        "blur": 8.0, "invert": True, "area": "masked", "padding": 40, "fill": "latent noise",
        "softness": "soft", "soft_power": 2.0,
    }  # fmt: skip
    assert found.not_in_request("photo.png") == []
    ImageRequest.parse(said)


@pytest.mark.parametrize(
    ("text", "value"), [("True", "both"), ("False", "none"), ("x", "x"), ("y", "y")]
)
def test_tiling(text, value):
    assert fields(f"Tiling: {text}")["tiling"] == value


def test_details_of_adetailer_in_order():
    found = found_in(
        "ADetailer model: face_yolov8n.pt, ADetailer prompt: smiling, ADetailer confidence: 0.3,"
        " ADetailer dilate erode: 4, ADetailer mask blur: 4, ADetailer denoising strength: 0.4,"
        " ADetailer inpaint only masked: True, ADetailer inpaint padding: 32,"
        " ADetailer use separate steps: True, ADetailer steps: 28,"
        " ADetailer model 2nd: hand_yolov8n.pt, ADetailer mask only top k largest 2nd: 2,"
        " ADetailer x offset: 5, ADetailer version: 25.3.0"
    )
    first, second = found.fields()["detail"]
    assert first == {
        "detector": "face_yolov8n.pt", "prompt": "smiling", "confidence": 0.3, "grow": 4,
        "blur": 4.0, "strength": 0.4, "padding": 32, "steps": 28,
    }  # fmt: skip
    assert second == {"detector": "hand_yolov8n.pt", "most": 2}
    assert found.left_out == ["ADetailer x offset: 5"]


def test_adetailer_s_word_for_the_prompt_of_the_picture_becomes_that_prompt():
    line = (
        'ADetailer model: face.pt, ADetailer prompt: "smiling, [PROMPT]", ADetailer confidence: 0.3,'
        ' ADetailer model 2nd: hand.pt, ADetailer prompt 2nd: "a hand [SEP] a fist"'
    )
    found = found_in(line)
    first, second = found.fields()["detail"]
    assert first["prompt"] == f"smiling, {found.prompt}"
    assert "prompt" not in second  # one for each face: there is no such thing here
    assert found.left_out == ["ADetailer prompt 2nd: a hand [SEP] a fist"]


def test_what_a1111_would_write_of_our_blocks():
    text = written(
        UsedModel(role="refiner", name="fine", sha256=B),
        hires={"scale": 1.5, "strength": 0.5, "steps": 9, "upscaler": "4x"},
        refiner={"model": "fine"},
        detail=[{"detector": "face"}, {"detector": "hand", "prompt": "a hand"}],
        tiling="both",
    )
    line = text.splitlines()[-1]
    for pair in (
        "Denoising strength: 0.5", "Hires upscale: 1.5", "Hires steps: 9", "Hires upscaler: 4x",
        f"Refiner: fine [{B[:10]}], Refiner switch at: 0.8", "Tiling: True",
        "ADetailer model: face", "ADetailer model 2nd: hand", "ADetailer prompt 2nd: a hand",
    ):  # fmt: skip
        assert f"{pair}," in line
    assert "Hires strength" not in line
    assert "Mask" not in line


def test_what_a1111_would_write_of_inpainting():
    text = written(
        init={"image": f"sha256:{A}", "strength": 0.8},
        mask={"area": "masked", "softness": "soft", "fill": "latent nothing"},
    )
    for pair in (
        "Denoising strength: 0.8", f"Init image hash: {A}", "Mask blur: 4",
        "Inpaint area: Only masked, Masked area padding: 32, Masked content: latent nothing",
        "Soft inpainting enabled: True, Soft inpainting schedule bias: 1",
    ):  # fmt: skip
        assert pair in text
    whole = written(init={"image": "a.png"}, mask={})
    assert "Denoising strength: 0.75" in whole
    assert "Mask blur: 4" in whole
    assert "padding" not in whole
    assert "Soft" not in whole


BLOCKS = {
    "init": {
        "image": "photo.png", "strength": 0.3, "resize": "fill", "noise_multiplier": 0.95,
        "extra_noise": 0.1, "color_correction": True, "image_cfg_scale": 1.2,
    },
    "mask": {
        "invert": True, "blur": 2.5, "area": "masked", "padding": 8, "fill": "fill",
        "softness": "soft", "soft_power": 2.0, "soft_scale": 0.4, "soft_detail": 3.0,
        "soft_influence": 0.5, "soft_threshold": 0.6, "soft_contrast": 2.5,
    },
    "hires": {
        "scale": 1.75, "strength": 0.55, "steps": 11, "sampler": "Euler", "scheduler": "Beta",
        "upscaler": "Lanczos", "prompt": "p, q: r", "negative_prompt": "n", "cfg_scale": 4.5,
        "model": "big",
    },
    "refiner": {"model": "fine", "switch_at": 0.6, "on": "both"},
    "restore": {"model": "CodeFormer"},
    "detail": [{"detector": "hand", "strength": 0.35, "most": 3, "size": 768, "grow": -2}],
}  # fmt: skip


@pytest.mark.parametrize("left", [(), ("init", "mask"), ("hires",), ("mask", "refiner", "detail")])
def test_what_we_write_comes_back(left):
    blocks = {name: block for name, block in BLOCKS.items() if name not in left}
    said = infotext.read(written(**blocks))
    picture = "photo.png" if "init" in blocks else None
    found, left_out = request_fields(said.prompt, "", said.settings, picture=picture)
    asked, again = ImageRequest.parse(blocks), ImageRequest.parse(found)
    for name in blocks:
        assert getattr(again, name) == getattr(asked, name)
    assert left_out == []


def test_one_bad_value_costs_no_other():
    said = fields(
        "Denoising strength: 0.4, Hires upscale: 99, Hires upscaler: Latent, Hires steps: 3"
    )
    assert said["hires"] == {"strength": 0.4, "upscaler": "Latent", "steps": 3}
    detail = "ADetailer model: a.pt, ADetailer confidence: 7"
    found = found_in(detail)
    assert "detail" not in found.fields()
    assert any("confidence" in text for text in found.left_out)


def test_every_field_of_a_detail_is_written():
    own = {
        "detector": "x.pt", "prompt": "p", "negative_prompt": "n", "confidence": 0.25, "most": 2,
        "smallest": 0.01, "grow": 8, "blur": 2.0, "strength": 0.3, "padding": 16, "size": 640,
        "steps": 30, "cfg_scale": 5.0, "model": "m", "sampler": "Euler", "scheduler": "Karras",
    }  # fmt: skip
    pairs = dict(detailer.write((Detail(**own),) * 3))
    blocks, left = detailer.read(pairs, {})
    assert (blocks, left) == ([own] * 3, [])
    assert Detail.model_fields.keys() == own.keys()


def test_an_upscaled_picture_keeps_what_it_said(tmp_path):
    before = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 7, Size: 64x64"
    asked = UpscaleRequest(image=f"sha256:{A}", scale=4, upscaler="4x", second="Lanczos")
    made = Recipe(request=asked, source=before)
    save(Image.new("RGB", (8, 8)), made, iter([tmp_path / "a.png"]), saving=Saving())
    found = find(tmp_path / "a.png")
    assert found is not None
    assert (found.prompt, found.negative_prompt, found.kind) == ("a cat", "dog", "upscale")
    assert found.settings["Postprocess upscale by"] == "4"
    assert found.settings["Postprocess upscaler"] == "4x"
    assert found.settings["Postprocess upscaler 2"] == "Lanczos"
    assert found.settings["Seed"] == "7"
    assert found.fields() == asked.model_dump()
    first = drawn(found)
    assert first is not None
    assert (first.prompt, first.settings["Seed"]) == ("a cat", "7")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (UpscaleRequest(image="a", width=100), "Postprocess upscale to: 100x0"),
        (UpscaleRequest(image="a", restore={"model": "CodeFormer"}), "CodeFormer weight: 0.5"),
        (UpscaleRequest(image="a", paint={"strength": 0.2}), "Postprocess denoising strength: 0.2"),
        (CutoutRequest(image="a", background="white"), "Postprocess background: white"),
    ],
)
def test_what_was_done_to_a_picture_that_said_nothing(asked, said):
    text = infotext.write(Recipe(request=asked, versions={"darkroom": "1"}))
    assert said in text
    assert text.endswith("Version: Darkroom 1")
    assert drawn(of_recipe_of(asked)) is None


def of_recipe_of(asked):
    from darkroom.media.metadata.ours import of_recipe

    return of_recipe(Recipe(request=asked))


def test_a_picture_of_a1111_that_was_upscaled_is_read(tmp_path):
    info = PngInfo()
    info.add_text(
        "parameters", "a cat\nSteps: 20, Sampler: Euler, Seed: 1, Postprocess upscale by: 4,"
        " Postprocess upscaler: R-ESRGAN 4x+",
    )  # fmt: skip
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    found = find(tmp_path / "a.png")
    assert found is not None
    assert found.left_out == ["Postprocess upscale by: 4", "Postprocess upscaler: R-ESRGAN 4x+"]
