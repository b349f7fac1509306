"""Second runs and beginnings from pictures, as programs other than A1111 tell of them."""

import json

import pytest

from darkroom.core.request import ImageRequest
from darkroom.media.metadata.carried import Carried
from darkroom.media.metadata.readers import interpret


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def read(**texts):
    return interpret(Carried.of("a", {k: json.dumps(v) for k, v in texts.items()}, kind="png"))


FIRST = {
    "seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
    "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
    "latent_image": ["5", 0],
}  # fmt: skip
GRAPH = {
    "4": node("CheckpointLoaderSimple", ckpt_name="base.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text="a fox", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="dog", clip=["4", 1]),
    "3": node("KSampler", **FIRST),
    "8": node("VAEDecode", samples=["11", 0], vae=["4", 2]),
    "9": node("SaveImage", images=["8", 0]),
}


def graph(between, **inputs):
    second = FIRST | {"denoise": 0.5, "steps": 12, "latent_image": ["10", 0]} | inputs
    return GRAPH | between | {"11": node("KSampler", **second)}


LATENT = {
    "10": node("LatentUpscaleBy", upscale_method="nearest-exact", scale_by=1.5, samples=["3", 0])
}
SIZED = {
    "10": node(
        "LatentUpscale", upscale_method="bilinear", width=1024, height=1536, crop="disabled",
        samples=["3", 0],
    )
}  # fmt: skip
MODEL = {
    "20": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "21": node("UpscaleModelLoader", model_name="up/4x-UltraSharp.pth"),
    "22": node("ImageUpscaleWithModel", upscale_model=["21", 0], image=["20", 0]),
    "23": node("ImageScaleBy", upscale_method="lanczos", scale_by=0.5, image=["22", 0]),
    "10": node("VAEEncode", pixels=["23", 0], vae=["4", 2]),
}


@pytest.mark.parametrize(
    ("between", "hires"),
    [
        (LATENT, {"scale": 1.5, "upscaler": "Latent (nearest-exact)"}),
        (SIZED, {"width": 1024, "height": 1536, "upscaler": "Latent"}),
        (MODEL, {"scale": 2.0, "upscaler": "4x-UltraSharp"}),
    ],
)
def test_a_second_sampler_of_comfyui_on_what_the_first_made_is_a_second_run(between, hires):
    found = read(prompt=graph(between))
    assert found.fields()["hires"] == {"strength": 0.5, "steps": 12} | hires
    assert found.left_out == []
    assert found.settings["Steps"] == "20"


def test_what_the_second_sampler_does_otherwise_is_taken_too():
    more = {"30": node("CLIPTextEncode", text="a sharp fox", clip=["4", 1])}
    asked = graph(LATENT | more, sampler_name="euler", cfg=5.0, positive=["30", 0])
    hires = read(prompt=asked).fields()["hires"]
    assert (hires["sampler"], hires["cfg_scale"], hires["prompt"]) == ("Euler", 5.0, "a sharp fox")
    assert "negative_prompt" not in hires


@pytest.mark.parametrize(
    "between",
    [
        {"10": node("LatentUpscaleBy", upscale_method="bislerp", scale_by=2, samples=["3", 0])},
        {"10": node("LatentBlend", samples1=["3", 0], samples=["3", 0])},
        {"10": node("LatentUpscaleBy", upscale_method="bicubic", scale_by=2, samples=["10", 0])},
        {"10": node("LatentUpscaleBy", upscale_method="bicubic", scale_by=["3", 0])},
        {"10": node("LatentUpscaleBy", upscale_method="bicubic", scale_by=2, samples=["99", 0])},
    ],
)
def test_what_is_not_simple_is_told(between):
    found = read(prompt=graph(between))
    assert "hires" not in found.fields()
    assert any(text.startswith("a further pass") for text in found.left_out)


def test_novelai_s_strength_counts_where_it_began_with_a_picture():
    comment = {"uc": "dog", "scale": 5, "steps": 28, "sampler": "k_euler", "seed": 3}
    comment |= {"strength": 0.6, "noise": 0.1, "width": 512, "height": 512}
    plain = read(Comment=comment)
    assert not any("strength" in text.casefold() for text in plain.left_out)
    began = read(Comment=comment | {"request_type": "Img2ImgRequest"})
    assert any("Denoising strength: 0.6 (it began" in text for text in began.left_out) or any(
        text.startswith("Denoising strength") for text in began.left_out
    )
    said = began.fields("photo.png")["init"]
    assert (said["image"], said["strength"], said["extra_noise"]) == ("photo.png", 0.6, 0.1)


def test_invokeai_s_strength_tiling_and_refiner():
    said = {
        "positive_prompt": "a fox", "negative_prompt": "", "steps": 30, "seed": 1,
        "generation_mode": "sdxl_img2img", "strength": 0.55, "seamless_x": True,
        "seamless_y": False, "refiner_start": 0.7, "refiner_model": {"model_name": "xl_refiner"},
        "width": 1024, "height": 1024, "scheduler": "euler",
    }  # fmt: skip
    fields = read(invokeai_metadata=said).fields("photo.png")
    assert fields["init"] == {"image": "photo.png", "strength": 0.55}
    assert fields["tiling"] == "x"
    assert fields["refiner"] == {"model": "xl_refiner", "switch_at": 0.7}
    ImageRequest.parse(fields)
