"""Graphs of ComfyUI: the ways in which people wire a picture, and the ways to break a walker."""

import json
import time

import pytest

from darkroom.media.metadata.carried import Carried
from darkroom.media.metadata.readers import interpret


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def run(graph, **more):
    texts = {"prompt": json.dumps(graph)} | {k: json.dumps(v) for k, v in more.items()}
    return interpret(Carried.of("a", texts, kind="png"))


def drawn(workflow):
    return interpret(Carried.of("a", {"workflow": json.dumps(workflow)}, kind="png"))


BASE = {
    "4": node("CheckpointLoaderSimple", ckpt_name="sub\\base.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text="a fox", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="dog", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", images=["8", 0]),
}
SAMPLER = {
    "seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
    "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
    "latent_image": ["5", 0],
}  # fmt: skip
EXPECTED = {
    "Steps": "20", "Sampler": "dpmpp_2m", "Schedule type": "karras", "CFG scale": "8.0",
    "Seed": "5", "Size": "512x768",
}  # fmt: skip


def graph(more=None, **inputs):
    return {**BASE, "3": node("KSampler", **(SAMPLER | inputs)), **(more or {})}


def test_the_plain_graph():
    found = run(graph())
    assert (found.source, found.prompt, found.negative_prompt) == ("comfyui", "a fox", "dog")
    assert found.settings == EXPECTED
    assert [m.to_json() for m in found.models] == [
        {"role": "checkpoint", "name": "base.safetensors"}
    ]
    assert found.left_out == []
    assert run(graph(seed=0)).settings["Seed"] == "0"


def test_webp_and_jpeg_carry_it_with_a_label():
    texts = {"Model": "prompt:" + json.dumps(graph()), "Make": "Workflow: {}"}
    assert interpret(Carried.of("a", texts, kind="webp")).settings == EXPECTED


def test_loras_clip_skip_and_vae_are_found_on_the_way():
    more = {
        "10": node("LoraLoader", lora_name="a.safetensors", strength_model=0.8, strength_clip=1,
                   model=["11", 0], clip=["12", 0]),
        "11": node("LoraLoaderModelOnly", lora_name="b.safetensors", strength_model=-0.5,
                   model=["4", 0]),
        "12": node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["4", 1]),
        "6": node("CLIPTextEncode", text="a fox", clip=["10", 1]),
        "13": node("VAELoader", vae_name="v.pt"),
        "14": node("LoraLoader", lora_name="unused.safetensors", strength_model=1.0),
        "15": node("Power Lora Loader (rgthree)", model=["10", 0],
                   lora_1={"on": True, "lora": "c.safetensors", "strength": 0.3},
                   lora_2={"on": False, "lora": "d.safetensors", "strength": 1}),
    }  # fmt: skip
    found = run(graph(more, model=["15", 0]))
    assert found.settings["Clip skip"] == "2"
    assert {(m.role, m.name, m.weight) for m in found.models} == {
        ("lora", "a.safetensors", 0.8), ("lora", "b.safetensors", -0.5),
        ("lora", "c.safetensors", 0.3), ("checkpoint", "base.safetensors", None),
        ("vae", "v.pt", None),
    }  # fmt: skip
    assert "lora 'a.safetensors' (weight 0.8)" in found.left_out


def test_a_sampler_of_parts():
    more = {
        "3": node("SamplerCustomAdvanced", noise=["20", 0], guider=["21", 0], sampler=["22", 0],
                  sigmas=["23", 0], latent_image=["5", 0]),
        "20": node("RandomNoise", noise_seed=77),
        "21": node("CFGGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], cfg=4.5),
        "22": node("KSamplerSelect", sampler_name="euler"),
        "23": node("SplitSigmas", sigmas=["24", 0], step=5),
        "24": node("BasicScheduler", model=["4", 0], scheduler="beta", steps=12, denoise=0.5),
    }  # fmt: skip
    found = run({**BASE, **more})
    assert (found.prompt, found.negative_prompt) == ("a fox", "dog")
    assert found.settings == {
        "Steps": "12", "Sampler": "euler", "Schedule type": "beta", "CFG scale": "4.5",
        "Seed": "77", "Denoising strength": "0.5", "Size": "512x768",
    }  # fmt: skip
    more["24"] = node("KarrasScheduler", steps=9, sigma_max=14.6)
    more["22"] = node("SamplerDPMPP_2M_SDE", eta=1.0)
    more["21"] = node("BasicGuider", model=["4", 0], conditioning=["25", 0])
    more["25"] = node("FluxGuidance", conditioning=["6", 0], guidance=3.5)
    found = run({**BASE, **more})
    assert found.prompt == "a fox"
    assert found.settings["Schedule type"] == "karras"
    assert found.settings["Sampler"] == "dpmpp_2m_sde"
    assert found.settings["Distilled CFG Scale"] == "3.5"


def test_the_first_of_two_passes_is_the_one():
    more = {
        "30": node("KSampler", **(SAMPLER | {"seed": 9, "denoise": 0.4, "latent_image": ["31", 0]})),
        "31": node("LatentUpscale", samples=["3", 0], width=1024, height=1536),
        "8": node("VAEDecode", samples=["30", 0]),
        "40": node("KSampler", **(SAMPLER | {"seed": 1})),  # leads nowhere
    }  # fmt: skip
    found = run({**more, **graph(), **more})
    assert (found.settings["Seed"], found.settings["Size"]) == ("5", "512x768")
    assert "a further pass (KSampler)" in found.left_out


def test_values_and_texts_from_other_nodes():
    more = {
        "6": node("CLIPTextEncode", text=["50", 0]),
        "50": node("StringConcatenate", string_a=["51", 0], string_b="red", delimiter=", "),
        "51": node("Reroute", **{"": ["52", 0]}),
        "52": node("PrimitiveStringMultiline", value="a fox"),
        "60": node("Seed (rgthree)", seed=123),
        "61": node("PrimitiveInt", value=33),
    }
    found = run(graph(more, seed=["60", 0], steps=["61", 0]))
    assert found.prompt == "a fox, red"
    assert (found.settings["Seed"], found.settings["Steps"]) == ("123", "33")


@pytest.mark.parametrize(
    ("kind", "inputs", "prompt"),
    [
        ("ConditioningCombine", {"conditioning_1": ["6", 0], "conditioning_2": ["7", 0]},
         "a fox AND dog"),
        ("ConditioningConcat", {"conditioning_to": ["6", 0], "conditioning_from": ["7", 0]},
         "a fox BREAK dog"),
        ("ControlNetApplyAdvanced", {"positive": ["6", 0], "negative": ["7", 0], "image": ["4", 0]},
         "a fox"),
        ("ConditioningSetArea", {"conditioning": ["6", 0], "width": 64}, "a fox"),
        ("ConditioningZeroOut", {"conditioning": ["6", 0]}, ""),
        ("CLIPTextEncodeSDXL", {"text_g": "big", "text_l": "big", "clip": ["4", 1]}, "big"),
        ("CLIPTextEncodeFlux", {"clip_l": "short", "t5xxl": "a long text"}, "a long text"),
        ("ImpactWildcardEncode", {"wildcard_text": "__a__", "populated_text": "an owl"}, "an owl"),
        ("Efficient Loader", {"positive": "an elk", "negative": "no"}, "an elk"),
    ],
)  # fmt: skip
def test_conditions(kind, inputs, prompt):
    found = run(graph({"70": node(kind, **inputs)}, positive=["70", 0]))
    assert (found.prompt, found.negative_prompt) == (prompt, "dog")


def test_image_to_image_is_told():
    more = {"5": node("VAEEncode", pixels=["80", 0]), "80": node("LoadImage", image="x.png")}
    found = run(graph(more, denoise=0.6))
    assert found.settings["Denoising strength"] == "0.6"
    assert "it starts from an image" in found.left_out


def workflow():
    """The same picture as the frontend saves it: positions for names."""
    nodes = [
        {"id": 4, "type": "CheckpointLoaderSimple", "widgets_values": ["base.safetensors"]},
        {"id": 5, "type": "EmptyLatentImage", "widgets_values": [512, 768, 1]},
        {"id": 6, "type": "CLIPTextEncode", "widgets_values": ["a fox"],
         "inputs": [{"name": "clip", "link": 1}]},
        {"id": 7, "type": "CLIPTextEncode", "widgets_values": ["unused"],
         "inputs": [{"name": "text", "link": 8, "widget": {"name": "text"}}]},
        {"id": 11, "type": "PrimitiveNode", "widgets_values": ["dog", "fixed"]},
        {"id": 10, "type": "LoraLoader", "widgets_values": ["a.safetensors", 0.8, 1.0],
         "inputs": [{"name": "model", "link": 2}], "mode": 0},
        {"id": 12, "type": "Reroute", "inputs": [{"name": "", "link": 3}]},
        {"id": 3, "type": "KSampler",
         "widgets_values": [5, "randomize", 20, 8.0, "dpmpp_2m", "karras", 1.0],
         "inputs": [{"name": "model", "link": 4}, {"name": "positive", "link": 5},
                    {"name": "negative", "link": 6}, {"name": "latent_image", "link": 7}]},
    ]  # fmt: skip
    links = [
        [1, 4, 1, 6, 0, "CLIP"], [2, 4, 0, 10, 0, "MODEL"], [3, 10, 0, 12, 0, "*"],
        [4, 12, 0, 3, 0, "MODEL"], [5, 6, 0, 3, 1, "C"], [6, 7, 0, 3, 2, "C"],
        [7, 5, 0, 3, 3, "LATENT"], [8, 11, 0, 7, 1, "STRING"],
    ]  # fmt: skip
    return {"nodes": nodes, "links": links, "version": 0.4}


def test_a_workflow_without_its_prompt():
    found = drawn(workflow())
    assert (found.prompt, found.negative_prompt) == ("a fox", "dog")
    assert found.settings == {**EXPECTED, "CFG scale": "8.0"}
    assert {m.name for m in found.models} == {"base.safetensors", "a.safetensors"}


def test_bypassed_and_muted_nodes():
    bypassed = workflow()
    bypassed["nodes"][5]["mode"] = 4
    assert {m.name for m in drawn(bypassed).models} == {"base.safetensors"}
    muted = workflow()
    muted["nodes"][-1]["mode"] = 2
    assert drawn(muted).settings == {}


def test_newer_workflows_name_their_values():
    node = {"id": 1, "type": "SomeNewSampler", "widgets_values": [7, "fixed", 11, "euler"],
            "inputs": [{"name": "positive", "link": 1},
                       *({"name": n, "widget": {"name": n}, "link": None}
                         for n in ("seed", "steps", "sampler_name"))]}  # fmt: skip
    text = {"id": 2, "type": "SomeText", "widgets_values": ["an owl"]}
    link = {"id": 1, "origin_id": 2, "origin_slot": 0, "target_id": 1, "target_slot": 0}
    found = drawn({"nodes": [node, text], "links": [link]})
    assert found.prompt == "an owl"
    assert found.settings == {"Steps": "11", "Sampler": "euler", "Seed": "7"}


def test_the_graph_that_was_run_goes_over_the_one_that_was_drawn():
    assert run(graph(steps=6), workflow=workflow()).settings["Steps"] == "6"


def chain(count, kind="X", name="conditioning"):
    return {f"n{k}": node(kind, **{name: [f"n{k + 1}", 0]}) for k in range(count)}


def doubled(count):
    return {
        f"n{k}": node("ConditioningCombine", conditioning_1=[f"n{k + 1}", 0],
                      conditioning_2=[f"n{k + 1}", 0])
        for k in range(count)
    } | {f"n{count}": node("CLIPTextEncode", text="x" * 1000)}  # fmt: skip


HOSTILE = {
    "a circle": graph({"6": node("Reroute", conditioning=["6", 0])}, model=["3", 0]),
    "a long chain": graph(chain(9000), positive=["n0", 0], model=["n0", 0], steps=["n0", 0]),
    "2 to the 90 paths": graph(doubled(90), positive=["n0", 0]),
    "links to nowhere": graph(model=["x", 0], positive=["y", 9], latent_image=["z", 0], seed=["q", 0]),
    "thousands of samplers": {str(k): node("KSampler", **SAMPLER) for k in range(9000)},
    "a chain of samplers": {
        f"n{k}": node("KSampler", **(SAMPLER | {"latent_image": [f"n{k + 1}", 0]}))
        for k in range(5000)
    },
    "a chain of parts": graph(chain(9000, "SplitSigmas", "sigmas"), sigmas=["n0", 0]),
    "nodes in great number": {str(k): node("A") for k in range(10_001)},
    "inputs in great number": {"1": node("KSampler", **{f"a{k}": 1 for k in range(2000)})},
    "nothing as it should be": {"1": {"class_type": "KSampler", "inputs": {
        "steps": {}, "positive": [], "seed": [[], 0], "latent_image": [{}, 1], "cfg": None}}},
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_harmless(name):
    texts = {"prompt": json.dumps(HOSTILE[name])}
    start = time.process_time()
    found = interpret(Carried.of("a", texts, kind="png"))
    assert time.process_time() - start < 2
    assert found is None or len(json.dumps(found.to_json())) < 2_000_000
