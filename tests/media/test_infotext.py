import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.core.recipe import Recipe, Template, UsedModel
from darkroom.core.request import ImageRequest, ResolvedRequest
from darkroom.core.sampler_table import SAMPLERS, SCHEDULERS
from darkroom.media.metadata import infotext
from darkroom.media.metadata.carried import Carried
from darkroom.media.metadata.fields import request_fields
from darkroom.media.metadata.found import split_sizes
from darkroom.media.metadata.implied import implied
from darkroom.media.metadata.infotext_table import OLD_RULES, ROWS
from darkroom.media.metadata.readers import interpret

GOLDENS = Path(__file__).parents[1] / "goldens" / "infotexts.json"
CASES = {case["id"]: case for case in json.loads(GOLDENS.read_text("utf-8"))["items"]}
TEXTS = {
    name: case.get("text", case.get("a1111_infotext"))
    for name, case in CASES.items()
    if "a1111_parse" in case
}
# Where A1111 loses something, and what is read here instead.
BETTER = {
    "a1111-wrapped-params": {
        "Steps": "20", "Sampler": "DPM++ 2M", "Schedule type": "Karras", "CFG scale": "7",
        "Seed": "1741860054", "Size-1": "512", "Model": "v1-5-pruned-emaonly",
        "Prompt": "a full-body portrait of a kamen rider, standing on a beautiful, green, lush,"
        " natural landscape with blue sky and water. The kamen rider must wear the mask.",
    },
    "civitai-reordered": {"Lora hashes": "COOLKIDS_XL_0.3_RC: 707767c651d3", "Seed": "3101814372"},
    "civitai-refiner": {"Lora hashes": "ghibli_last: 56d1eeb58396", "Refiner switch at": "0.8"},
    "civitai-mangled-quotes": {
        "Lora hashes": "Dreamyvibes artstyle SDXL - Reddit - Trigger with dreamyvibes artstyle:"
        " 878e2d40fdc5",
    },
    "a1111-trailing-template": {
        "Prompt": "pixelart of a large glass building, high quality, masterpiece <lora:pixelart:1>",
        "Negative prompt": "ugly, normal quality, low quality", "Steps": "40", "Seed": "1162253888",
        "Template": "pixelart of a large glass building, high quality, masterpiece"
        " <lora:pixelart:1>",
        "Negative Template": "ugly, normal quality, low quality",
    },
    "comfy-a1111-json": {"Model hash": '{"key1": "value1", "key2": {"sub": "value2"}}'},
}  # fmt: skip
# Keys of A1111's parse that `darkroom info` gives another value, or not at all, and why.
ITS_FAULTS = {
    "a1111-wrapped-params": {"Prompt", "Schedule type"},  # the first line of the parameters is lost
    "civitai-reordered": {"3_RC"},  # the end of a name in quotes, taken for a key
    "civitai-refiner": {"ghibli_last"},
    "civitai-mangled-quotes": {
        "Dreamyvibes artstyle SDXL - Reddit - Trigger with dreamyvibes artstyle"
    },
    "a1111-trailing-template": {"Negative prompt"},  # all parameters are in it
    "comfy-a1111-json": {"Model hash"},  # cut at a comma
    "novelai-v4": {"Schedule type"},  # the file says karras, which A1111 does not look at
}
PARAMETERS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768, Model: x"
MIXED = "Sampler: Euler a, CFG scale: 7, Seed: 5, Steps: 20, Size: 512x768, Model: x"


def added(said):
    return implied(said.settings, said.prompt, said.negative_prompt)


def parsed(text):
    """As A1111 names it all."""
    said = infotext.read(text)
    whole = {**said.settings, **dict(split_sizes(said.settings)), **added(said)}
    return whole | {"Prompt": said.prompt, "Negative prompt": said.negative_prompt}


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - BETTER.keys()))
def test_a_well_formed_text_says_what_a1111_reads_in_it(name):
    expected = CASES[name]["a1111_parse"]
    read = parsed(TEXTS[name])
    assert {key: str(read.get(key)) for key in expected} == {k: str(v) for k, v in expected.items()}
    names = {"Size", "Hires resize", "First pass size"}  # besides their parts
    assert read.keys() - expected.keys() <= names


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_info_gives_whatever_a1111_reads_or_fills_in(name):
    case = CASES[name]
    texts = {"parameters": case["text"]} if "text" in case else case["payload"]
    found = interpret(Carried.of("a.png", texts, kind="png", size=case.get("image_size")))
    shown = found.to_json()
    read = shown["settings"] | {
        "Prompt": shown["prompt"],
        "Negative prompt": shown["negative_prompt"],
    }
    expected, faults = case["a1111_parse"], ITS_FAULTS.get(name, set())
    assert {key for key in expected if read.get(key, ...) != expected[key]} == faults
    assert all(type(read[key]) is type(expected[key]) for key in expected.keys() - faults)
    assert shown["implied"] == {
        key: value for key, value in shown["settings"].items() if key in shown["implied"]
    }
    assert shown["implied"].keys().isdisjoint(found.settings)


def test_what_is_filled_in_changes_no_request_of_other_programs():
    for source, name in (("sdnext", "sdnext-fractal"), ("comfyui", "comfy-a1111-json")):
        found = interpret(Carried.of("a", {"parameters": TEXTS[name]}))
        assert (found.source, found.to_json()["settings"]["RNG"]) == (source, "GPU")
        assert "rng" not in found.fields()


@pytest.mark.parametrize("name", BETTER)
def test_a_text_that_a1111_loses_is_read(name):
    read = parsed(TEXTS[name])
    assert {key: read.get(key) for key in BETTER[name]} == BETTER[name]
    assert not any('"' in key for key in read)


@pytest.mark.parametrize(
    "text",
    [
        f"a cat, red\nNegative prompt: blurry\n{PARAMETERS}",
        f"a cat, red Negative prompt: blurry {PARAMETERS}",
        f"a cat, red\nNegative prompt: blurry {PARAMETERS}",
        "a cat, red\nNegative prompt: blurry\n" + PARAMETERS.replace(", ", "\n"),
        "a cat, red\nNegative prompt: blurry\n" + PARAMETERS.replace(", Seed", ",\nSeed"),
        "a cat, red\nNegative prompt: blurry\n" + PARAMETERS.replace(", Seed", "\nSeed"),
        "a cat, red\nNegative prompt: blurry\n" + PARAMETERS.replace("Euler a", "Euler\na"),
        f"a cat, red\r\nNegative prompt: blurry\r\n{PARAMETERS}\r\n",
        f"a cat, red\nNegative prompt: blurry\n{PARAMETERS}\nthank you for looking",
        f"\n\na cat, red\nNegative prompt: blurry\n\n{PARAMETERS}",
        f"\ufeffa cat, red\nNegative prompt: \ufeffblurry\n{PARAMETERS}",
        f"a cat, red\nNegative prompt: blurry\n{MIXED}",
        f"a cat, red\nNegative prompt: blurry\n{MIXED}\nthank you for looking",
        f"a cat, red Negative prompt: blurry {MIXED}",
        f"a cat, red Negative prompt: blurry Seed: 5, {PARAMETERS.replace(' Seed: 5,', '')}",
        "a cat, red\nNegative prompt: blurry\nSampler: Euler a, CFG scale: 7, Seed: 5,\n"
        "Model: x, Steps: 20, Size: 512x768",
        "a cat, red Negative prompt: blurry Model: x, CFG scale: 7, Size: 512x768, "
        "Sampler: Euler a, Seed: 5, Steps: 20",
    ],
)
def test_the_same_text_in_the_forms_that_people_pass_on(text):
    said = infotext.read(text)
    assert (said.prompt, said.negative_prompt.strip()) == ("a cat, red", "blurry")
    assert dict(said.settings) == {
        "Steps": "20", "Sampler": "Euler a", "CFG scale": "7", "Seed": "5", "Size": "512x768",
        "Model": "x",
    }  # fmt: skip


@pytest.mark.parametrize("behind", ["", "\nthank you for looking", "\nTemplate: foo"])
def test_parameters_in_another_order_are_found_wherever_they_stand(behind):
    line = "Sampler: Euler a, CFG scale: 7, Steps: 20, Seed: 1, Size: 512x512"
    said = infotext.read(f"a cat\nNegative prompt: dog\n{line}{behind}")
    assert (said.prompt, said.negative_prompt) == ("a cat", "dog")
    assert said.settings == {
        "Sampler": "Euler a", "CFG scale": "7", "Steps": "20", "Seed": "1", "Size": "512x512",
    } | ({"Template": "foo"} if "Template" in behind else {})  # fmt: skip


def test_on_one_line_a_value_in_quotes_may_hold_commas_and_keys():
    said = infotext.read(
        'a cat Negative prompt: dog ControlNet 0: "Module: none, Model: None, Weight: 1",'
        " Seed: 11, Steps: 20, Sampler: Euler a, Size: 512x512"
    )
    assert (said.prompt, said.negative_prompt) == ("a cat", "dog")
    assert said.settings["ControlNet 0"] == "Module: none, Model: None, Weight: 1"
    assert said.settings["Seed"] == "11"


def test_one_on_each_line_as_tensor_art_exports():
    text = """a cat, red
Negative prompt: blurry
Steps: 25
KSampler: dpmpp_2m
Schedule: karras
CFG scale: 7
Lora: grain, eyes
Note: "a: b"
Seed: 5
Size: 768x1152"""
    said = infotext.read(text)
    assert (said.prompt, said.negative_prompt) == ("a cat, red", "blurry")
    assert dict(said.settings) == {
        "Steps": "25", "KSampler": "dpmpp_2m", "Schedule": "karras", "CFG scale": "7",
        "Lora": "grain, eyes", "Note": "a: b", "Seed": "5", "Size": "768x1152",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (f"how to cook\nSteps: 3, boil: 2, eat: 4\nslowly\nNegative prompt: x\n{PARAMETERS}",
         "how to cook\nSteps: 3, boil: 2, eat: 4\nslowly"),
        (f"Steps: a staircase, Seed: a plant\nNegative prompt: x\n{PARAMETERS}",
         "Steps: a staircase, Seed: a plant"),
        ("Steps: 3, wide", "Steps: 3, wide"),
        ("a: b, a sign that says: no", "a: b, a sign that says: no"),
    ],
)  # fmt: skip
def test_a_prompt_may_look_like_parameters(text, prompt):
    assert infotext.read(text).prompt == prompt


def test_what_depends_on_the_version_that_made_it():
    def switched(version):
        text = f"a [b:c:3]\nSteps: 1, Sampler: DDIM, Seed: 1, Refiner: r, Version: {version}"
        return {key for key, value in added(infotext.read(text)).items() if value is True}

    editing, padding = "Old prompt editing timelines", "Pad conds v0"
    downcast, refiner = "Downcast alphas_cumprod", "Refiner switch by sampling steps"
    assert switched("v1.5.2") == {editing, padding, downcast, refiner}
    assert switched("v1.6.0") == {downcast, refiner}
    assert switched("v1.7.0-224-gabc") == {downcast, refiner}
    assert switched("v1.7.0-225-gabc") == {refiner}
    assert switched("1.8.0") == switched("f2.0.1v1.10.1") == switched("Darkroom 0.1") == set()
    assert {padding, downcast, refiner} == OLD_RULES.keys()


def test_old_rules_that_are_not_followed_are_told():
    def told(version):
        text = f"a [b:c:3]\nSteps: 1, Sampler: DDIM, Seed: 1, Refiner: r, Version: {version}"
        found = interpret(Carried.of("a", {"parameters": text}))
        assert found.fields().get("old_prompt_editing", False) is (version == "v1.5.2")
        return [each for each in found.left_out if not each.startswith("Refiner: ")]

    every = [f"{key}: {words}" for key, words in OLD_RULES.items()]
    assert told("v1.5.2") == every
    assert told("v1.7.0") == every[1:]
    assert told("v1.7.9") == every[2:]
    assert told("v1.10.1") == []


def recipe(more=(), template=None, **fields):
    given = {"width": 512, "height": 768, "steps": 20, "cfg_scale": 7, "seed": 5} | fields
    models = [UsedModel(name="dreamshaper_8", sha256="879db523c3" + "0" * 54)]
    return Recipe(
        request=ResolvedRequest.parse(given),
        seed=given["seed"],
        variation_seed=given.get("variation_seed"),
        models=(*models, *more),
        template=template,
        versions={"darkroom": "1.2.3"},
    )


def test_what_is_written_has_a1111s_form():
    request = {"prompt": "a castle", "negative_prompt": "blurry", "sampler": "Euler a"}
    text = infotext.write(recipe(**request, scheduler="Karras", clip_skip=2))
    assert text == (
        "a castle\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Schedule type: Karras,"
        " CFG scale: 7, Seed: 5, Size: 512x768, Model hash: 879db523c3, Model: dreamshaper_8,"
        " Clip skip: 2, RNG: CPU, Version: Darkroom 1.2.3"
    )
    assert infotext.write(recipe(prompt="a")).startswith("a\nSteps: 20, ")


def test_embeddings_and_the_template_are_written_too():
    embeddings = [UsedModel(role="embedding", name=n, sha256=n * 64) for n in "ab"]
    template = Template(prompt="{a|b} cat", negative_prompt="", styles=("x",))
    text = infotext.write(recipe(embeddings, template, prompt="a cat"))
    assert 'TI hashes: "a: aaaaaaaaaaaa, b: bbbbbbbbbbbb"' in text
    assert text.endswith('Template: "{a|b} cat", Version: Darkroom 1.2.3')
    said = infotext.read(text)
    assert (said.prompt, said.settings["Template"]) == ("a cat", "{a|b} cat")
    assert "Negative Template" not in said.settings


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain words", "plain words"),
        ("a, b", '"a, b"'),
        ("a: b", '"a: b"'),
        ('x\n"é"', '"x\\n\\"é\\""'),
        ('"x"', '"\\"x\\""'),
        (" x", '" x"'),
        ("{x}", '"{x}"'),
        ("", '""'),
    ],
)
def test_values_are_quoted_as_a1111_does_it(value, written):
    assert infotext.quote(value) == written
    line = f"Steps: 1, Sampler: y, Note: {written}, Last: z"
    assert infotext.read(line).settings["Note"] == value


def test_every_row_of_the_table_that_the_request_has_comes_back():
    fields = {
        "variation_seed": 7, "variation_strength": 0.25, "seed_resize_width": 512, "ensd": 31337,
        "seed_resize_height": 640, "rng": "nv", "emphasis": "No norm", "ngms": 2.5, "eta": 0.5,
        "skip_early_cfg": 0.1, "cfg_rescale": 0.7, "s_churn": 3.0, "s_tmin": 0.1, "s_tmax": 9.0,
        "s_noise": 1.01, "sigma_min": 0.03, "sigma_max": 14.0, "rho": 7.5, "clip_skip": 2,
        "discard_penultimate": True, "old_prompt_editing": True, "guidance_start": 0.125,
        "guidance_end": 0.75,
    }  # fmt: skip
    fields = {name: value for name, value in fields.items() if name in ImageRequest.model_fields}
    said = infotext.read(infotext.write(recipe(**fields)))
    found, left_out = request_fields(said.prompt, said.negative_prompt, said.settings)
    assert {name: found.get(name) for name in fields} == fields
    assert left_out == []


def test_no_field_of_two_rows():
    names = [name for row in ROWS for name in row.fields]
    assert len(names) == len(set(names))
    keys = [key for row in ROWS for key in (row.key, *row.aliases)]
    assert len(keys) == len(set(keys))


BITS = [
    "a cat", "\n", "Negative prompt:", "Negative prompt: x", "Steps: 20, Sampler: Euler, Seed: 3",
    "Steps: 20, Sampler: Euler, CFG scale: 3, Size: 3x3", ", ", ":", "(a:1.2)", "<lora:x:1>",
    "[a:b:0.5]", "é", "🍎", " ", "\t", '"', "\\", "{", "}", "Template: q", "Steps: 5",
    "Size: 3x3\nModel: x\nSeed: 3", 'Exact prompt: "a"', "\r\n", "\u2028", "\x00", "AND", "BREAK",
]  # fmt: skip


def words(choose, most=9):
    return "".join(choose.choice(BITS) for _ in range(choose.randrange(most)))


RECIPE = recipe()
PROPERTIES = ImageRequest.model_json_schema()["properties"]
WRITTEN = [name for row in ROWS for name in row.fields if name in PROPERTIES]
NAMES = {
    "sampler": [each.name for each in SAMPLERS],
    "scheduler": [each.name for each in SCHEDULERS],
}


def any_value(choose, kind):
    """A value of a field by its type and its bounds, as the JSON schema tells them."""
    kind = choose.choice(kind.get("anyOf", [kind]))
    if "enum" in kind:
        return choose.choice(kind["enum"])
    low, high = kind.get("minimum"), kind.get("maximum", 1e6)
    match kind["type"]:
        case "null":
            return None
        case "boolean":
            return choose.random() < 0.5
        case "integer":
            step = kind.get("multipleOf", 1)
            return choose.randrange(low, high + 1, step)
        case "number":
            return choose.choice([low, high, choose.uniform(low, high), round(low + 0.05, 2)])
    raise AssertionError(kind)


def any_recipe(choose):
    fields = {
        name: choose.choice(NAMES[name]) if name in NAMES else any_value(choose, PROPERTIES[name])
        for name in WRITTEN
    }
    seed, side = choose.randrange(2**64), 8 * choose.randrange(8, 1025)
    wanted = {"width": side, "height": 64, "steps": 20, "cfg_scale": 7.5, "seed": seed}
    fields |= {name: value for name, value in wanted.items() if fields[name] is None}
    fields |= {"prompt": words(choose), "negative_prompt": words(choose)}
    # What validation makes of names is not what is measured here.
    used = UsedModel(name=words(choose) or "x", sha256=f"{choose.randrange(2**256):064x}")
    return RECIPE.model_copy(
        update={
            "request": RECIPE.request.model_copy(update=fields),
            "seed": fields["seed"],
            "variation_seed": fields["variation_seed"],
            "models": (used,),
        }
    )


def test_every_field_of_the_table_is_drawn():
    made = [any_recipe(random.Random(seed)).request for seed in range(100)]
    assert all(len({getattr(each, name) for each in made}) > 1 for name in WRITTEN)
    assert {row.fields for row in ROWS if set(row.fields) & set(PROPERTIES)} == {
        row.fields for row in ROWS if set(row.fields) <= set(WRITTEN)
    }
    elsewhere = {"kind", "prompt", "negative_prompt", "model", "vae", "count", "styles"}
    elsewhere |= {"dynamic_prompts", "regions", "detail"}
    elsewhere |= {"init", "mask", "outpaint", "loopback", "hires", "refiner", "restore"}  # blocks
    assert PROPERTIES.keys() - set(WRITTEN) == elsewhere


@pytest.mark.slow
def test_ten_thousand_recipes_come_back():
    choose = random.Random(0)
    elsewhere = {"dynamic_prompts": True, "model": RECIPE.request.model}
    for _ in range(10_000):
        made = any_recipe(choose)
        said = infotext.read(infotext.write(made))
        found, left_out = request_fields(said.prompt, said.negative_prompt, said.settings)
        again = ImageRequest.parse(found | elsewhere)
        assert vars(again) == vars(made.request)
        assert left_out == []
        assert said.settings["Model"] == made.models[0].name
        assert said.settings["Model hash"] == made.models[0].sha256[:10]


@settings(max_examples=200)
@given(prompt=st.text(st.characters(codec="utf-8"), max_size=60),
       negative=st.text(st.characters(codec="utf-8"), max_size=60))  # fmt: skip
def test_any_prompt_comes_back(prompt, negative):
    said = infotext.read(infotext.write(recipe(prompt=prompt, negative_prompt=negative)))
    assert (said.prompt, said.negative_prompt) == (prompt, negative)


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*BITS, ",", " ", "[", "Steps: 1, ", "A: "]), max_size=40))
def test_no_text_is_too_odd_to_be_read(pieces):
    said = infotext.read("".join(pieces))
    assert all(isinstance(value, str) for value in said.settings.values())


@pytest.mark.parametrize(
    "piece",
    [
        "a", "a:", '"a: ', "[{", "Steps: 1, x: [", "Steps: 1,\n", 'a: "\\', '"a: abcdef", ',
        "Negative prompt:\n", "Template: x\n", "Steps: 3, Seed: 3, Model: 3\n", "Steps: 1, {",
        "\n", ",", "Steps: 1\nSeed: 1\n", "Steps: 1\n" + "a: " * 50 + "\n", "Steps: 1, \n \t\n",
        "Steps: 1\naa: x" + " " * 10_000 + "y\n",
    ],
)  # fmt: skip
def test_time_is_in_proportion_to_the_length(piece):
    start = time.process_time()
    infotext.read(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 2.5  # seconds; most take a tenth
