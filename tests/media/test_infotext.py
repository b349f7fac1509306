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
from darkroom.media.metadata.fields import request_fields
from darkroom.media.metadata.found import split_sizes
from darkroom.media.metadata.implied import implied
from darkroom.media.metadata.infotext_table import ROWS

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
PARAMETERS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768, Model: x"


def parsed(text):
    """As A1111 names it all."""
    said = infotext.read(text)
    whole = {**said.settings, **dict(split_sizes(said.settings)), **implied(said)}
    return whole | {"Prompt": said.prompt, "Negative prompt": said.negative_prompt}


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - BETTER.keys()))
def test_a_well_formed_text_says_what_a1111_reads_in_it(name):
    expected = CASES[name]["a1111_parse"]
    read = parsed(TEXTS[name])
    assert {key: str(read.get(key)) for key in expected} == {k: str(v) for k, v in expected.items()}
    names = {"Size", "Hires resize", "First pass size"}  # besides their parts
    assert read.keys() - expected.keys() <= names


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
    ],
)
def test_the_same_text_in_the_forms_that_people_pass_on(text):
    said = infotext.read(text)
    assert (said.prompt, said.negative_prompt.strip()) == ("a cat, red", "blurry")
    assert dict(said.settings) == {
        "Steps": "20", "Sampler": "Euler a", "CFG scale": "7", "Seed": "5", "Size": "512x768",
        "Model": "x",
    }  # fmt: skip


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
        return {key for key, value in implied(infotext.read(text)).items() if value is True}

    editing, padding = "Old prompt editing timelines", "Pad conds v0"
    downcast, refiner = "Downcast alphas_cumprod", "Refiner switch by sampling steps"
    assert switched("v1.5.2") == {editing, padding, downcast, refiner}
    assert switched("v1.6.0") == {downcast, refiner}
    assert switched("v1.7.0-224-gabc") == {downcast, refiner}
    assert switched("v1.7.0-225-gabc") == {refiner}
    assert switched("1.8.0") == switched("f2.0.1v1.10.1") == switched("Darkroom 0.1") == set()


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


def any_recipe(choose):
    fields = {
        "prompt": words(choose),
        "negative_prompt": words(choose),
        "width": 8 * choose.randrange(8, 1025),
        "height": 8 * choose.randrange(8, 1025),
        "steps": choose.randrange(1, 501),
        "cfg_scale": choose.choice([1, 7.5, choose.uniform(1, 100)]),
        "seed": choose.randrange(2**64),
        "sampler": choose.choice(SAMPLERS).name,
        "scheduler": choose.choice(SCHEDULERS).name,
        "clip_skip": choose.randrange(1, 13),
    }
    # What validation makes of names is not what is measured here.
    made = recipe()
    request = made.request.model_copy(update=fields)
    used = UsedModel(name=words(choose) or "x", sha256=f"{choose.randrange(2**256):064x}")
    return made.model_copy(update={"request": request, "seed": fields["seed"], "models": (used,)})


@pytest.mark.slow
def test_ten_thousand_recipes_come_back():
    choose = random.Random(0)
    for number in range(10_000):
        made = any_recipe(choose)
        said = infotext.read(infotext.write(made))
        request = made.request
        assert (said.prompt, said.negative_prompt) == (request.prompt, request.negative_prompt)
        assert said.settings["Model"] == made.models[0].name
        assert said.settings["Model hash"] == made.models[0].sha256[:10]
        rows = {row.key: row for row in ROWS}
        for key, text in said.settings.items():
            row = rows[key]
            parts = text.split("x") if len(row.fields) > 1 else [text]
            for name, part in zip(row.fields, parts, strict=True):
                if name in ImageRequest.model_fields:
                    assert row.read(part) == getattr(request, name), (key, text)
        if number % 20 == 0:
            found, left_out = request_fields(said.prompt, said.negative_prompt, said.settings)
            assert ImageRequest.parse(found | {"model": request.model}).model_dump(
                exclude={"dynamic_prompts", "kind"}
            ) == request.model_dump(exclude={"dynamic_prompts", "kind"})
            assert left_out == []


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
