"""Every dialect by an example of it; the recorded ones are in goldens/infotexts.json."""

import json
import random
from pathlib import Path

import pytest

from darkroom.core.request import ImageRequest
from darkroom.media.metadata.carried import Carried
from darkroom.media.metadata.readers import interpret

GOLDENS = Path(__file__).parents[1] / "goldens" / "infotexts.json"
CASES = {case["id"]: case for case in json.loads(GOLDENS.read_text("utf-8"))["items"]}
PLACES = {
    "invokeai-3": "invokeai_metadata",
    "invokeai-dream": "Dream",
    "comfyui-img2img": "prompt",
    "comfyui-sdxl": "prompt",
    "fooocus": "parameters",
    "drawthings": "exif:UserComment",
}  # the others are texts of their own
SOURCES = {
    "a1111-docstring": "a1111",
    "civitai-reordered": "civitai",
    "civitai-mangled-quotes": "civitai",
    "forge-flux-lora": "forge",
    "forge-flux-gguf": "forge",
    "forge-adetailer": "forge",
    "forge-hires-prompt-escaped": "forge",
    "sdnext-spaceship": "sdnext",
    "sdnext-fractal": "sdnext",
    "comfy-a1111-json": "comfyui",
    "novelai-v1": "novelai",
    "novelai-v4": "novelai",
    "invokeai-3": "invokeai",
    "invokeai-dream": "invokeai",
    "comfyui-img2img": "comfyui",
    "comfyui-sdxl": "comfyui",
    "fooocus": "fooocus",
    "easydiffusion": "easydiffusion",
    "drawthings": "drawthings",
}
KEYS = {
    "seed": "Seed", "steps": "Steps", "cfg": "CFG scale", "sampler": "Sampler",
    "scheduler": "Schedule type", "denoise": "Denoising strength",
}  # fmt: skip


def found(texts, size=None):
    as_text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in texts.items()}
    return interpret(Carried.of("a.png", as_text, kind="png", size=size))


def golden(name):
    case = CASES[name]
    if "text" in case:
        return found({"parameters": case["text"]})
    texts = {PLACES[name]: case["payload"]} if name in PLACES else case["payload"]
    return found(texts, case.get("image_size"))


def models(given):
    return [(each.role, each.name, each.hash, each.weight) for each in given.models]


@pytest.mark.parametrize("name", CASES)
def test_every_recorded_text_is_somebodys_and_gives_a_request(name):
    read = golden(name)
    assert read.source == SOURCES.get(name, read.source)
    assert ImageRequest.parse(read.fields())
    assert json.loads(json.dumps(read.to_json()))["prompt"] == read.prompt


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if "expected_fields" in case]
)
def test_recorded_payloads_are_read_as_they_stand(name):
    read, expected = golden(name), dict(CASES[name]["expected_fields"])
    assert read.prompt == expected.pop("prompt")
    assert read.negative_prompt == expected.pop("negative")
    if model := expected.pop("model", None):
        assert read.checkpoint.name == model
    if "width" in expected:
        assert read.settings["Size"] == f"{expected.pop('width')}x{expected.pop('height')}"
    assert {key: read.settings[KEYS[key]] for key in expected} == {
        key: str(value) for key, value in expected.items()
    }


@pytest.mark.parametrize("name", ["novelai-v1", "novelai-v4"])
def test_novelai_is_read_as_a1111_reads_it(name):
    read, expected = golden(name), CASES[name]["a1111_parse"]
    assert (read.prompt, read.negative_prompt) == (expected["Prompt"], expected["Negative prompt"])
    for key in ("Steps", "Sampler", "CFG scale", "Seed", "Clip skip", "ENSD"):
        assert read.settings[key] == expected[key]
    assert read.settings["Size"] == f"{expected['Size-1']}x{expected['Size-2']}"


def test_a_request_of_an_a1111_text():
    fields = golden("a1111-rich").fields()
    assert {k: fields[k] for k in ("sampler", "scheduler", "steps", "cfg_scale", "seed")} == {
        "sampler": "DPM++ 2M", "scheduler": "Karras", "steps": 30, "cfg_scale": 5.5, "seed": 99,
    }  # fmt: skip
    assert (fields["width"], fields["height"], fields["clip_skip"]) == (832, 1216, 2)
    assert fields["rng"] == "nv"  # what A1111 draws on an NVIDIA card
    assert fields["dynamic_prompts"] is False
    assert golden("a1111-ngms").fields()["rng"] == "cpu"
    assert golden("a1111-old-editing").fields()["old_prompt_editing"] is True
    assert golden("civitai-refiner").fields()["scheduler"] == "Karras"  # from the sampler's name


def test_what_has_no_counterpart_is_told():
    left_out = golden("a1111-rich").left_out
    assert not any(text.startswith(("Hires", "Refiner: ", "ADetailer")) for text in left_out)
    assert "Some Future Key: 42" in left_out
    assert not any(text.startswith(("Model", "Version", "Lora hashes")) for text in left_out)
    assert "Clip skip: 1.3" in golden("sdnext-fractal").left_out
    tiny = found(
        {"parameters": "x\nSteps: 999, Sampler: Qwerty, Seed: -1, Size: 1x1, CFG scale: -1"}
    )
    assert ImageRequest.parse(tiny.fields()).steps is None
    said = " ".join(tiny.left_out)
    assert all(word in said for word in ("Steps: 999", "Qwerty", "Size: 1x1", "CFG scale: -1"))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("Denoising strength: 1", False),
        ("Denoising strength: 1.0, Mask blur: 4", False),
        ("Denoising strength: 0", False),
        ("Denoising strength: 0, Mask blur: 4", True),
        ("Denoising strength: 0.0, Operations: img2img", True),
        ("Denoising strength: 0.7", True),
    ],
)
def test_a_strength_that_asks_for_nothing_is_not_told(more, told):
    read = found({"parameters": f"x\nSteps: 1, Sampler: Euler, Seed: 2, {more}"})
    assert any(text.startswith("Denoising strength") for text in read.left_out) is told


@pytest.mark.parametrize(
    ("program", "rng"),
    [("v1.10.1", "nv"), ("f2.0.1v1.10.1", "nv"), ("0eb4a98, App: SD.Next", "gpu")],
)
def test_noise_of_a1111s_graphics_card_is_an_nvidia_cards(program, rng):
    text = f"x\nSteps: 1, Sampler: Euler, Seed: 2, RNG: GPU, Version: {program}"
    assert found({"parameters": text}).fields()["rng"] == rng


@pytest.mark.parametrize("word", ["None", "none", "Automatic"])
def test_a_word_for_none_is_no_model(word):
    text = f"x\nSteps: 1, Sampler: Euler, Refiner: {word}, VAE: {word}, Model: {word}"
    read = found({"parameters": text})
    assert (read.models, read.left_out) == ((), [])
    said = {"prompt": "x", "steps": 1, "vae": word, "refinermodel": word}
    assert found({"parameters": {"sui_image_params": said}}).models == ()


def test_models_of_an_infotext():
    assert models(golden("a1111-rich")) == [
        ("checkpoint", "juggernautXL_v9", "abc123", None),
        ("refiner", "refinerXL", None, None),
        ("vae", "sdxl_vae.safetensors", None, None),
        ("lora", "filmgrain_v2", "1a2b3c", 0.6),
        ("lora", "eyes", "4d5e6f", 0.4),
    ]
    assert models(golden("civitai-mangled-quotes"))[-1] == (
        "lora", "Dreamyvibes artstyle SDXL - Reddit - Trigger with dreamyvibes artstyle",
        "878e2d40fdc5", 1.0,
    )  # fmt: skip
    assert models(golden("comfy-a1111-json")) == [("checkpoint", "Kolors v1", None, None)]
    text = (
        'x <lora:a:0.5>\nSteps: 1, Sampler: b, Hashes: {"model": "aabbccdd", "lora:a": "112233"}, '
        'TI hashes: "easy: c74b4e810b03", Refiner: r [8d0ce6c016]'
    )
    assert models(found({"parameters": text})) == [
        ("checkpoint", "aabbccdd", "aabbccdd", None),
        ("refiner", "r", "8d0ce6c016", None),
        ("lora", "a", "112233", 0.5),
        ("embedding", "easy", "c74b4e810b03", None),
    ]


def test_embeddings_of_a_time_before_hashes_and_whether_a_prompt_names_them():
    read = found({
        "parameters": "a fox, Easy\nNegative prompt: bad_prompt\nSteps: 20, Sampler: Euler a,"
        " CFG scale: 7, Seed: 1, Size: 64x64\nUsed embeddings: easy [afea], bad_prompt [1234],"
        " gone [00ff]"
    })  # fmt: skip
    assert models(read) == [
        ("embedding", name, None, None) for name in ("easy", "bad_prompt", "gone")
    ]
    assert [text for text in read.left_out if "embedding" in text] == ["embedding 'gone'"]


def test_civitais_generator():
    resources = [
        {"type": "checkpoint", "modelVersionId": 1, "modelName": "Pony", "modelVersionName": "v6"},
        {"type": "lora", "weight": 0.8, "modelVersionId": 2, "modelName": "Style"},
        {"weight": 1, "air": "urn:air:sdxl:embedding:civitai:5@6"},
    ]
    read = found({"parameters": "a fox\nNegative prompt: x\nSteps: 25, Sampler: Undefined, CFG scale:"
                  f" 3.5, Seed: 7, Size: 832x1216, Clip skip: 2, Created Date: 2024-09-01T10:00:00Z,"
                  f" Civitai resources: {json.dumps(resources)}, Civitai metadata: {{}}"})  # fmt: skip
    assert (read.source, read.prompt) == ("civitai", "a fox")
    assert models(read) == [
        ("checkpoint", "Pony", None, None),
        ("lora", "Style", None, 0.8),
        ("embedding", "urn:air:sdxl:embedding:civitai:5@6", None, 1.0),
    ]
    assert read.settings["Created Date"] == "2024-09-01T10:00:00Z"
    # Its FLUX pictures: the scale is the distilled one.
    assert read.fields()["sampler"] == "Euler"
    assert (read.settings["CFG scale"], read.settings["Distilled CFG Scale"]) == ("1", "3.5")


def test_civitais_api():
    meta = {
        "prompt": "a fox", "negativePrompt": "dog", "cfgScale": 7, "steps": 20, "seed": 0,
        "sampler": "DPM++ 2M Karras", "Size": "512x768", "Model": "dream", "clipSkip": 2,
        "Model hash": "879db523c3",
        "resources": [{"type": "model", "name": "dream", "hash": "879db523c3"},
                      {"type": "lora", "name": "grain", "weight": 0.6}],
    }  # fmt: skip
    for texts in ({"text": meta}, {"text": {"meta": meta, "id": 5}}):
        read = found(texts)
        assert (read.source, read.prompt, read.negative_prompt) == ("civitai", "a fox", "dog")
        assert read.fields()["scheduler"] == "Karras"
        assert read.settings["Seed"] == "0"
        assert models(read) == [
            ("checkpoint", "dream", "879db523c3", None),
            ("lora", "grain", None, 0.6),
        ]
    inside = {"extra": {}, "extraMetadata": json.dumps({"prompt": "a", "cfgScale": 3, "steps": 4})}
    assert found({"prompt": inside}).source == "civitai"


def test_novelais_characters():
    comment = {"steps": 28, "scale": 5.5, "uc": "bad", "prompt": "rain", "sampler": "nai_own",
               "v4_prompt": {"caption": {"base_caption": "rain", "char_captions":
                                         [{"char_caption": "girl, red hair"}]}}}  # fmt: skip
    read = found({"Software": "NovelAI", "Comment": comment, "Source": "NovelAI Diffusion V4.5"})
    assert (read.prompt, read.settings["Sampler"]) == ("rain", "nai_own")
    assert "character prompt: girl, red hair" in read.left_out
    assert found({"text": comment}).source == "novelai"


def test_invokeai_2():
    document = {
        "model": "stable diffusion", "model_weights": "sd-1.5", "model_hash": "cc6cb27103417325ff94",
        "app_id": "invoke-ai/InvokeAI", "app_version": "2.2.5",
        "image": {"prompt": [{"prompt": "a boat [storm, rain] at sea", "weight": 1.0}], "steps": 50,
                  "cfg_scale": 7.5, "threshold": 0, "perlin": 0, "height": 512, "width": 768,
                  "seed": 0, "seamless": False, "sampler": "k_euler_a"},
    }  # fmt: skip
    read = found({"sd-metadata": document})
    assert (read.prompt, read.negative_prompt) == ("a boat at sea", "storm, rain")
    assert read.settings == {
        "Steps": "50", "Sampler": "k_euler_a", "CFG scale": "7.5", "Seed": "0", "Model": "sd-1.5",
        "Version": "2.2.5", "Size": "768x512",
    }  # fmt: skip
    assert models(read) == [("checkpoint", "sd-1.5", "cc6cb27103417325ff94", None)]
    assert read.fields()["sampler"] == "Euler a"


def test_invokeai_dream_with_more_flags():
    line = '"a \\"red\\" boat" -s30 -S 7 -W512 -H 640 -C7.5 -A k_euler -f 0.7 --seamless'
    for texts in ({"Dream": line}, {"text": line}):
        read = found(texts)
        assert (read.source, read.prompt) == ("invokeai", 'a "red" boat')
        assert read.settings == {
            "Steps": "30", "Seed": "7", "CFG scale": "7.5", "Sampler": "k_euler",
            "Denoising strength": "0.7", "Size": "512x640",
        }  # fmt: skip
        assert "--seamless" in read.left_out
    assert found({"text": '"just a quoted prompt"'}).source == "a1111"


def test_invokeai_5_and_its_graph():
    metadata = {
        "positive_prompt": "a boat", "negative_prompt": "storm", "steps": 30, "cfg_scale": 5.5,
        "scheduler": "dpmpp_2m_k", "seed": 4, "width": 1024, "height": 768, "app_version": "5.6.0",
        "model": {"key": "k", "hash": "blake3:ab12cd34ef", "name": "juggernaut", "type": "main"},
        "loras": [{"model": {"name": "grain", "hash": "blake3:99aa88"}, "weight": 0.75}],
        "control_layers": {"layers": []}, "clip_skip": 1,
    }  # fmt: skip
    read = found({"invokeai_metadata": metadata})
    assert models(read) == [
        ("checkpoint", "juggernaut", "ab12cd34ef", None),
        ("lora", "grain", "99aa88", 0.75),
    ]
    assert [model.digest for model in read.models] == [None, None]  # no file here has such hashes
    assert (read.fields()["sampler"], read.fields()["scheduler"]) == ("DPM++ 2M", "Karras")
    assert "control layers" in read.left_out
    sparse = {k: v for k, v in metadata.items() if k not in ("positive_prompt", "seed")}
    graph = {
        "id": "g",
        "nodes": {"m": {"type": "core_metadata", **sparse, "positive_prompt": None},
                  "p": {"type": "string", "value": "a ship"},
                  "s": {"type": "integer", "value": 99}},
        "edges": [{"source": {"node_id": n, "field": "value"},
                   "destination": {"node_id": "m", "field": f}}
                  for n, f in (("p", "positive_prompt"), ("s", "seed"))],
    }  # fmt: skip
    read = found({"invokeai_graph": graph})
    assert (read.source, read.prompt, read.settings["Seed"]) == ("invokeai", "a ship", "99")
    assert found({"invokeai_graph": graph, "invokeai_metadata": metadata}).prompt == "a boat"


def test_swarmui():
    document = {
        "sui_image_params": {
            "prompt": "a fox", "negativeprompt": "dog", "model": "sub/sdxl_base", "seed": 5,
            "steps": 20, "cfgscale": 7.0, "width": 1024, "height": 768, "sampler": "dpmpp_2m",
            "scheduler": "karras", "clipstopatlayer": -2, "loras": ["grain", "eyes"],
            "loraweights": ["0.5", "1"], "swarm_version": "0.9.5", "automaticvae": True,
        },
        "sui_extra_data": {"date": "2025-01-01"},
        "sui_models": [{"name": "sub/sdxl_base.safetensors", "param": "model", "hash": "0x31e35c80fc"}],
    }  # fmt: skip
    for place in ("parameters", "UserComment", "text"):
        read = found({place: document})
        assert (read.source, read.prompt, read.negative_prompt) == ("swarmui", "a fox", "dog")
        assert models(read) == [
            ("checkpoint", "sdxl_base", "31e35c80fc", None),
            ("lora", "grain", None, 0.5),
            ("lora", "eyes", None, 1.0),
        ]
        fields = read.fields()
        assert (fields["sampler"], fields["scheduler"], fields["clip_skip"]) == (
            "DPM++ 2M", "Karras", 2,
        )  # fmt: skip


def test_fooocus_in_both_schemes():
    document = {
        "prompt": "a fox", "negative_prompt": "", "styles": "['Fooocus V2']", "performance": "Speed",
        "steps": 30, "resolution": "(1152, 896)", "guidance_scale": 4.0, "sharpness": 2.0,
        "base_model": "juggernautXL_v8", "base_model_hash": "aeb7e9e689", "refiner_model": "None",
        "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "vae": "Default (model)", "seed": "0",
        "loras": [["offset", 0.1, "4852686128"]], "version": "Fooocus v2.5.5", "clip_skip": 2,
    }  # fmt: skip
    read = found({"parameters": document, "fooocus_scheme": "fooocus"})
    assert models(read) == [
        ("checkpoint", "juggernautXL_v8", "aeb7e9e689", None),
        ("lora", "offset", "4852686128", 0.1),
    ]
    fields = read.fields()
    assert (fields["width"], fields["height"], fields["seed"]) == (1152, 896, 0)
    assert "VAE" not in read.settings
    text = "a fox\nSteps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 5, Version: Fooocus v2.5.5"
    assert found({"parameters": text, "fooocus_scheme": "a1111"}).source == "fooocus"
    assert found({"parameters": text}).source == "fooocus"
    text = "a fox\nSteps: 30, Sampler: DPM++ 2M SDE, Scheduler: karras, Version: Fooocus v2.5.5"
    fields = found({"parameters": text}).fields()
    assert (fields["sampler"], fields["scheduler"]) == ("DPM++ 2M SDE", "Karras")
    sdnext = text.replace("Version: Fooocus v2.5.5", "App: SD.Next")
    assert "scheduler" not in found({"parameters": sdnext}).fields()


def test_easy_diffusion_with_labels_and_as_json():
    text = """Prompt: a fox
Width: 512
Height: 768
Seed: 7
Steps: 25
Guidance Scale: 7.5
Prompt Strength: 0.8
Use Face Correction: None
Use Upscaling: None
Sampler: euler_a
Negative Prompt: dog
Stable Diffusion model: sd-v1-4
VAE model: None
Clip Skip: True"""
    document = {
        "prompt": "a fox", "negative_prompt": "dog", "seed": 7, "width": 512, "height": 768,
        "num_inference_steps": 25, "guidance_scale": 7.5, "sampler_name": "euler_a",
        "use_stable_diffusion_model": "sd-v1-4", "clip_skip": True, "prompt_strength": 0.8,
        "use_lora_model": ["grain"], "lora_alpha": ["0.5"], "use_face_correction": None,
    }  # fmt: skip
    for texts in ({"text": text}, {"text": document}, {"text": {"reqBody": document}}):
        read = found(texts)
        assert (read.source, read.prompt, read.negative_prompt) == ("easydiffusion", "a fox", "dog")
        assert read.settings == {
            "Steps": "25", "Sampler": "euler_a", "CFG scale": "7.5", "Seed": "7",
            "Model": "sd-v1-4", "Denoising strength": "0.8", "Size": "512x768", "Clip skip": "2",
        }  # fmt: skip
    assert models(read)[1:] == [("lora", "grain", None, 0.5)]


def test_draw_things():
    document = {"c": "a fox", "uc": "dog", "model": "sd_v1.5_f16.ckpt", "sampler": "Euler A",
                "seed": 5, "scale": 6.5, "steps": 22, "size": "512x640", "strength": 1,
                "lora": [{"model": "grain.ckpt", "weight": 0.4}]}  # fmt: skip
    read = found({"xmp:CreatorTool": "Draw Things", "exif:UserComment": document})
    assert (read.source, read.fields()["sampler"]) == ("drawthings", "Euler a")
    assert models(read)[1] == ("lora", "grain.ckpt", None, 0.4)
    assert found({"UserComment": "Draw Things " + json.dumps(document)}).source == "drawthings"


def test_an_infotext_goes_over_the_graph_beside_it():
    graph = CASES["comfyui-sdxl"]["payload"]
    text = "a hat\nSteps: 9, Sampler: Euler, Seed: 5, Version: ComfyUI"
    read = found({"prompt": graph, "parameters": text})
    assert (read.source, read.prompt, read.settings["Steps"]) == ("comfyui", "a hat", "9")


def twisted(value, choose):
    """`value` with parts of it replaced by what does not belong there."""
    odd = (
        None,
        True,
        -1,
        1e308,
        "",
        "x",
        [],
        [[]],
        {},
        {"a": [None]},
        "9" * 400,
        [1, "a"],
        float("nan"),
    )
    if choose.random() < 0.08:
        return choose.choice(odd)
    if isinstance(value, dict):
        return {k: twisted(v, choose) for k, v in value.items() if choose.random() > 0.05}
    if isinstance(value, list):
        return [twisted(v, choose) for v in value]
    return value


EXAMPLES = [
    {"prompt": CASES["comfyui-sdxl"]["payload"]},
    {"invokeai_metadata": CASES["invokeai-3"]["payload"]},
    {"parameters": CASES["fooocus"]["payload"]},
    {"text": CASES["easydiffusion"]["payload"]},
    {"exif:UserComment": CASES["drawthings"]["payload"] | {"lora": [{"model": "a", "weight": 1}]}},
    CASES["novelai-v4"]["payload"] | {"Comment": json.loads(CASES["novelai-v4"]["payload"]["Comment"])},
    {"parameters": {"sui_image_params": {"prompt": "a", "steps": 3, "loras": ["a"],
                    "loraweights": ["1"], "clipstopatlayer": -2, "width": 64, "height": 64},
                    "sui_models": [{"name": "a", "hash": "0x112233"}]}},
    {"sd-metadata": {"app_id": "x", "model_hash": "a", "model_weights": "m",
                     "image": {"prompt": [{"prompt": "a [b]"}], "seed": 1, "width": 64, "height": 64}}},
    {"text": {"cfgScale": 7, "prompt": "a", "resources": [{"name": "a", "type": "lora", "weight": 1,
              "air": "urn:air:a:b"}], "extraMetadata": "{}", "hashes": {"model": "a"}}},
    {"invokeai_graph": {"nodes": {"m": {"type": "core_metadata", "model": {"name": "a", "hash": "b"},
                        "loras": [{"model": {"name": "a"}, "weight": 1}]}, "p": {"value": "a"}},
                        "edges": [{"source": {"node_id": "p"},
                                   "destination": {"node_id": "m", "field": "positive_prompt"}}]}},
    {"parameters": 'x <lora:a:1>\nSteps: 1, Sampler: b, Civitai resources: [{"type": "lora"}], Hashes: {}'},
]  # fmt: skip


def test_no_value_in_the_wrong_place_is_more_than_left_out():
    choose = random.Random(0)
    for number in range(600):
        texts = twisted(EXAMPLES[number % len(EXAMPLES)], choose)
        if isinstance(texts, dict):
            read = found(texts)
            assert read is None or json.dumps(read.to_json())
            assert read is None or ImageRequest.parse(read.fields())
