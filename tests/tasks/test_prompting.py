"""What prompts do to pictures: editing, AND, styles, choices, embeddings, and what has no effect."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from darkroom.core.errors import BadRequest
from darkroom.core.settings import Settings
from darkroom.jobs.worker import Worker
from darkroom.media.metadata import read_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def worker(folder, checkpoint):
    torch.set_num_threads(1)
    (folder / "data" / "wildcards").mkdir(parents=True)
    (folder / "data" / "wildcards" / "colours.txt").write_text("red\ngreen\nblue\nyellow\n")
    (folder / "data" / "styles.csv").write_text(
        'name,prompt,negative_prompt\nFilm,"{prompt}, grain",cartoon\nBright,bright,\n'
    )
    (folder / "data" / "embeddings").mkdir()
    return Worker(
        Settings(data_dir=folder / "data", models_dirs=(checkpoint.parent,), preview_seconds=0)
    )


@pytest.fixture
def make(worker, ask, tmp_path):
    """Run a request; returns its pictures (pixels), their recipes, and the warnings."""

    def run(prompt="an apple", **fields):
        events = list(worker.run(ask(prompt=prompt, **fields), output=tmp_path))
        if events[-1].kind == "failed":
            raise AssertionError(events[-1].data["text"])
        paths = [Path(e.data["path"]) for e in events if e.kind == "artifact"]
        pixels = [np.asarray(Image.open(path)) for path in paths]
        said = [e.data["text"] for e in events if e.kind == "warning"]
        return pixels, [read_recipe(path) for path in paths], said

    return run


def picture(make, *words, **fields):
    return make(*words, **fields)[0][0]


def same(a, b):
    return np.array_equal(a, b)


# ---- the grammar reaches the network ----------------------------------------------------------------


def test_emphasis_changes_the_picture_and_weight_one_does_not(make):
    plain = picture(make, "an apple")
    assert same(plain, picture(make, "an (apple:1.0)"))
    assert not same(plain, picture(make, "an (apple:1.6)"))
    assert same(plain, picture(make, "an (apple:1.6)", emphasis="Ignore"))
    assert not same(plain, picture(make, "an (apple:1.6)", emphasis="None"))


def test_an_edit_that_comes_after_the_end_or_before_the_start_is_none(make):
    red, blue = picture(make, "red"), picture(make, "blue")
    assert not same(red, blue)
    assert same(red, picture(make, "[red:blue:3]"))
    assert same(blue, picture(make, "[red:blue:0]"))
    mixed = picture(make, "[red:blue:1]")
    assert not same(mixed, red)
    assert not same(mixed, blue)


def test_the_stages_of_an_edit_take_the_calls_that_a1111_gives_them(worker, ask, make, monkeypatch):
    """`[a:b:3]` gives the calls 0 to 3 to a; Heun's steps are two calls each."""
    said = []
    engine = type(worker.engine)
    script = engine.script

    def spy(self, *args, **kwargs):
        said.append(script(self, *args, **kwargs))
        return said[-1]

    monkeypatch.setattr(engine, "script", spy)
    make("[red:blue:3]", steps=6, sampler="Euler")
    part = said[-1].parts[0]
    first, last = part.encodings
    assert [part.at(call) is first for call in range(6)] == [True] * 4 + [False] * 2
    assert part.at(99) is last
    make("[red:blue:0.5]", steps=6, sampler="Heun")
    assert said[-1].parts[0].ends == (6, 12)


def test_and_with_weight_one_each_is_their_composition(make):
    """uncond + s (a - u) + s (b - u): with b = the negative prompt nothing is added."""
    alone = picture(make, "red", negative_prompt="blue", cfg_scale=4)
    both = picture(make, "red AND blue", negative_prompt="blue", cfg_scale=4)
    assert np.abs(alone.astype(int) - both).max() <= 1
    assert not same(alone, picture(make, "red AND blue :0.5", negative_prompt="", cfg_scale=4))


def test_prompts_of_different_length_and_comments(make):
    long = " ".join(["apple"] * 90)
    assert not same(picture(make, long, negative_prompt="blue"), picture(make, long))
    assert same(picture(make, "red # apple"), picture(make, "red"))


@pytest.mark.parametrize("split", [True, False])
def test_both_branches_give_the_same_in_one_call_or_two(worker, make, monkeypatch, split):
    from dataclasses import replace

    plan = worker.engine.plan
    expected = picture(make, "[red:blue:1]", negative_prompt="green")
    monkeypatch.setattr(worker.engine, "plan", lambda *a: replace(plan(*a), split_guidance=split))
    made = picture(make, "[red:blue:1]", negative_prompt="green")
    assert np.abs(made.astype(int) - expected).max() <= 1


# ---- styles, choices, wildcards ---------------------------------------------------------------------


def test_a_style_goes_around_the_prompts_and_the_recipe_has_both(make):
    (pixels,), (recipe,), _ = make("an apple", styles=["Film", "Bright"])
    assert recipe.request.prompt == "an apple, grain, bright"
    assert recipe.request.negative_prompt == "cartoon"
    assert recipe.request.styles == ()
    assert (recipe.template.prompt, recipe.template.styles) == ("an apple", ("Film", "Bright"))
    assert same(pixels, picture(make, "an apple, grain, bright", negative_prompt="cartoon"))


def test_an_unknown_style_is_refused_before_anything_runs(worker, ask, tmp_path):
    (event,) = worker.run(ask(styles=["Flim"]), output=tmp_path / "none")
    assert "unknown style 'Flim'" in event.data["text"]
    assert not (tmp_path / "none").exists()


def test_every_picture_has_its_own_choice_and_alone_it_is_the_same(make):
    pixels, recipes, _ = make("a {cat|dog|frog} in __colours__", count=4, seed=3)
    prompts = [recipe.request.prompt for recipe in recipes]
    assert len(set(prompts)) > 1
    assert all("__" not in prompt and "{" not in prompt for prompt in prompts)
    assert recipes[2].template.prompt == "a {cat|dog|frog} in __colours__"
    (alone,), (again,), _ = make("a {cat|dog|frog} in __colours__", seed=5)
    assert again.request.prompt == prompts[2]
    assert same(alone, pixels[2])


def test_the_recipe_makes_the_same_pixels_without_the_lists(worker, make, folder, tmp_path):
    (pixels,), (recipe,), _ = make("a __colours__ apple", seed=11)
    events = list(worker.run(recipe.again(), output=tmp_path, like=recipe))
    (path,) = (Path(e.data["path"]) for e in events if e.kind == "artifact")
    assert same(np.asarray(Image.open(path)), pixels)
    assert read_recipe(path).request.prompt == recipe.request.prompt


def test_braces_are_text_when_choices_are_off_and_a_missing_list_is_said(make):
    _, (recipe,), said = make("a {cat|dog} __shapes__", dynamic_prompts=False)
    assert recipe.request.prompt == "a {cat|dog} __shapes__"
    assert recipe.template is None
    assert said == []
    _, (recipe,), said = make("a __shapes__", count=1)
    assert recipe.request.prompt == "a __shapes__"
    assert any("no wildcard file for __shapes__" in text for text in said)


# ---- embeddings -------------------------------------------------------------------------------------


@pytest.fixture
def embedding(folder):
    path = folder / "data" / "embeddings" / "easyneg.safetensors"
    torch.manual_seed(0)
    width = 64

    def write(width=width, count=2):
        save_file({"emb_params": torch.randn(count, width)}, path)
        return path

    yield write
    path.unlink(missing_ok=True)


def test_an_embedding_in_a_negative_prompt_counts_and_is_in_the_recipe(worker, make, embedding):
    words = picture(make, negative_prompt="easyneg")
    width = worker.engine.model(worker.library.find("tiny")).text.widths[0]
    embedding(width)
    (pixels,), (recipe,), said = make(negative_prompt="easyneg")
    assert said == []
    assert not same(pixels, words)
    (used,) = recipe.used("embedding")
    assert (used.name, len(used.sha256)) == ("easyneg", 64)
    assert same(pixels, picture(make, negative_prompt="EasyNeg"))
    assert recipe.used("checkpoint")[0].name == "tiny"


def test_an_embedding_for_another_model_is_words_and_said_once(make, embedding):
    words = picture(make, negative_prompt="easyneg")
    embedding(width=1280)
    pixels, recipes, said = make(negative_prompt="easyneg", count=2)
    assert same(pixels[0], words)
    assert len([text for text in said if "is for SDXL" in text]) == 1
    assert recipes[0].used("embedding") == []


# ---- noise ------------------------------------------------------------------------------------------


def test_variations_share_a_seed_and_strength_none_is_the_picture_itself(make):
    base = picture(make)
    pixels, recipes, _ = make(variation_seed=100, variation_strength=0.2, count=2)
    assert [recipe.seed for recipe in recipes] == [7, 7]
    assert [recipe.variation_seed for recipe in recipes] == [100, 101]
    assert not same(pixels[0], pixels[1])
    assert not same(pixels[0], base)
    again = recipes[1].again()
    assert (again.seed, again.variation_seed, again.count) == (7, 101, 1)
    _, _, said = make(variation_seed=100)
    assert any("variation_seed has no effect" in text for text in said)


def test_the_source_of_noise_and_the_size_it_comes_from_matter(make):
    base = picture(make)
    assert not same(base, picture(make, rng="nv"))
    assert not same(base, picture(make, seed_resize_width=128, seed_resize_height=128))
    assert same(base, picture(make, seed_resize_width=64, seed_resize_height=64))


def test_settings_of_the_sampler_reach_it_and_those_it_has_not_are_said(make):
    assert same(picture(make, sampler="Euler"), picture(make, sampler="Euler a", eta=0))
    _, _, said = make(sampler="Euler", eta=0.5)
    assert any("Euler has no eta" in text for text in said)
    assert not same(picture(make), picture(make, scheduler="Karras", rho=3))
    _, _, said = make(scheduler="Simple", rho=3)
    assert any("has no rho" in text for text in said)
    _, _, said = make(sampler="Euler", ensd=31337)
    assert any("ensd has no effect" in text for text in said)


# ---- guidance ---------------------------------------------------------------------------------------


def test_guidance_outside_its_part_of_the_run_is_none(make):
    guided, plain = picture(make, cfg_scale=7), picture(make, cfg_scale=1)
    assert same(plain, picture(make, cfg_scale=7, guidance_start=1))
    assert same(plain, picture(make, cfg_scale=7, guidance_end=0))
    assert same(plain, picture(make, cfg_scale=7, skip_early_cfg=1))
    early = picture(make, cfg_scale=7, guidance_end=0.5)
    assert not same(early, guided)
    assert not same(early, plain)
    assert not same(guided, picture(make, cfg_scale=7, cfg_rescale=0.7))
    assert not same(guided, picture(make, cfg_scale=7, ngms=100))


@pytest.mark.parametrize(
    "sampler", ["DDIM CFG++", "Euler CFG++", "DPM adaptive", "DPM fast", "Restart", "PLMS"]
)
def test_samplers_with_ways_of_their_own_make_pictures(make, sampler):
    (pixels,), (recipe,), _ = make(sampler=sampler, steps=4)
    assert pixels.std() > 0
    assert recipe.request.sampler == sampler


def test_a_prompt_that_is_too_long_is_refused_in_words(worker, ask, tmp_path):
    events = list(worker.run(ask(prompt="apple " * 80_000), output=tmp_path))
    assert "75,000 is the most" in events[-1].data["text"]
    with pytest.raises(BadRequest, match="prompt"):
        ask(prompt="x" * 1_000_001)


def test_and_without_guidance_still_leads_away_from_the_negative_prompt(make):
    """a with weight 2 and s = 1: u + 2 (a - u), which is not a."""
    plain = picture(make, "red", cfg_scale=1)
    assert np.abs(plain.astype(int) - picture(make, "red AND blue :0", cfg_scale=1)).max() <= 1
    doubled = picture(make, "red :2", negative_prompt="blue", cfg_scale=1)
    strict = picture(make, "red", negative_prompt="blue", cfg_scale=2)
    assert np.abs(doubled.astype(int) - strict).max() <= 1


def test_a_scale_below_one_goes_towards_the_negative_prompt(make):
    away = picture(make, "red", negative_prompt="blue", cfg_scale=0)
    assert np.abs(away.astype(int) - picture(make, "blue", cfg_scale=1)).max() <= 1


# ---- what has no effect is said, and only that ------------------------------------------------------

SAMPLERS = ["Euler", "Euler a", "DDIM", "DPM++ 2M SDE", "Restart", "UniPC", "DPM fast"]
FIELDS = [
    {"eta": 0.5},
    {"s_churn": 5},
    {"s_noise": 1.5},
    {"ensd": 31337},
    {"scheduler": "Simple"},
    {"sigma_min": 0.5},
    {"rho": 3},
    {"unipc_order": 2},
    {"beta_alpha": 0.9},
    {"sgm_noise": True},
    {"discard_penultimate": True},
    {"guidance_end": 0.5},
    {"cfg_rescale": 0.5},
]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_setting_changes_the_picture_or_is_said_to_have_no_effect(make, sampler):
    (base,), _, said = make(sampler=sampler, steps=5)
    assert not any("no effect" in text for text in said)
    for fields in FIELDS:
        (pixels,), _, said = make(sampler=sampler, steps=5, **fields)
        silent = any("no effect" in text for text in said)
        assert same(pixels, base) == silent, (sampler, fields, said)


def test_ensd_with_noise_that_an_option_adds_is_not_said_to_have_no_effect(make):
    for fields in ({"sampler": "DDIM", "eta": 1}, {"sampler": "Euler", "s_churn": 5}):
        base = picture(make, **fields)
        (pixels,), _, said = make(ensd=31337, **fields)
        assert said == []
        assert not same(pixels, base)


def test_a_tag_of_no_known_kind_is_no_text_and_is_kept_in_the_recipe(make):
    (pixels,), (recipe,), said = make("red <style:gone:0.8>")
    assert same(pixels, picture(make, "red"))
    assert recipe.request.prompt == "red <style:gone:0.8>"
    assert said == ["<style:gone:0.8> has no effect: there is no such kind of network"]


def test_guidance_windows_hold_whatever_the_sampler_makes_of_the_levels(make):
    for fields in ({"sampler": "DPM adaptive"}, {"sampler": "Euler", "s_churn": 5}):
        guided, plain = picture(make, **fields), picture(make, cfg_scale=1, **fields)
        late = picture(make, guidance_start=0.05, **fields)
        assert not same(late, plain)
        assert not same(late, guided)


def test_a_schedule_that_would_rise_is_refused(worker, ask, tmp_path):
    for fields in ({"sigma_min": 20}, {"sigma_max": 0.01}):
        events = list(worker.run(ask(scheduler="Karras", **fields), output=tmp_path))
        assert "would go up" in events[-1].data["text"]


@pytest.mark.parametrize("prompt", ["(<cat-toy>:1.2)", "[<cat-toy>:red:2]", "a <cat-toy> red"])
def test_an_embedding_is_found_inside_brackets(worker, make, folder, prompt):
    path = folder / "data" / "embeddings" / "<cat-toy>.safetensors"
    width = worker.engine.model(worker.library.find("tiny")).text.widths[0]
    save_file({"emb_params": torch.randn(2, width)}, path)
    try:
        _, (recipe,), said = make(prompt)
    finally:
        path.unlink()
    assert said == []
    assert [used.name for used in recipe.used("embedding")] == ["<cat-toy>"]


def test_redo_says_first_that_an_embedding_is_another_or_new(worker, make, embedding, tmp_path):
    width = worker.engine.model(worker.library.find("tiny")).text.widths[0]
    embedding(width)
    _, (recipe,), _ = make(negative_prompt="easyneg")

    def told():
        events = list(worker.run(recipe.again(), output=tmp_path / "again", like=recipe))
        return [e.data["text"] for e in events if e.kind == "warning"]

    assert told() == []
    path = embedding(width, count=3)
    assert ["embedding 'easyneg'" in text for text in told()] == [True]
    path.unlink()
    assert ["none now" in text for text in told()] == [True]


def test_a_weight_beyond_all_numbers_is_named(worker, ask, tmp_path):
    events = list(worker.run(ask(prompt="(a:" + "9" * 300 + ")"), output=tmp_path))
    assert "a weight of" in events[-1].data["text"]
