"""LoRAs and VAEs in pictures: what tags do, what is refused, and what a picture says of them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.core.errors import OutOfMemory
from darkroom.core.settings import Settings
from darkroom.engine.patch import Patcher
from darkroom.jobs.worker import Worker
from darkroom.media.metadata import read_recipe
from network_files import kohya_lora
from tiny import tiny_checkpoint, tiny_layout, write_tensors


@pytest.fixture(scope="module")
def models(tmp_path_factory, checkpoint):
    folder = tmp_path_factory.mktemp("networks")
    kohya_lora(folder / "one.safetensors", checkpoint, metadata={"ss_output_name": "uno"})
    kohya_lora(folder / "two.safetensors", checkpoint, seed=1)
    kohya_lora(folder / "picture only.safetensors", checkpoint, seed=2, only=("unet",))
    other = tiny_checkpoint(folder / "wider.safetensors", width=96, unet=(32, 64))
    kohya_lora(folder / "unfit.safetensors", other, seed=3)
    other.unlink()
    words = np.random.default_rng(5).standard_normal((2, 64)).astype(np.float32)
    kohya_lora(
        folder / "words.safetensors",
        checkpoint,
        size=0.0,
        extra={"bundle_emb.zork.string_to_param.*": words},
    )
    return folder


@pytest.fixture(scope="module")
def worker(models, checkpoint, tmp_path_factory):
    torch.set_num_threads(1)
    data = tmp_path_factory.mktemp("user")
    return Worker(
        Settings(data_dir=data, models_dirs=(checkpoint.parent, models), preview_seconds=0)
    )


@pytest.fixture
def run(worker, ask, tmp_path):
    """The events of a request."""

    def events(prompt="an apple", *, like=None, **fields):
        return list(worker.run(ask(prompt=prompt, **fields), output=tmp_path, like=like))

    return events


@pytest.fixture
def make(run):
    """The pictures of a request and their recipes."""

    def pictures(prompt="an apple", **fields):
        events = run(prompt, **fields)
        assert events[-1].kind == "done", events[-1].data
        paths = [Path(e.data["path"]) for e in events if e.kind == "artifact"]
        return [np.asarray(Image.open(path)).astype(int) for path in paths], [
            read_recipe(path) for path in paths
        ]

    return pictures


def picture(make, *words, **fields):
    return make(*words, **fields)[0][0]


def same(a, b):
    return np.array_equal(a, b)


def refusal(run, *words, **fields):
    (event,) = run(*words, **fields)
    assert event.kind == "failed"
    return f"{event.data['text']}. {event.data['hint']}"


# ---- what a tag does --------------------------------------------------------------------------------


def test_a_lora_changes_the_picture_by_its_strength_and_is_gone_afterwards(make):
    plain = picture(make)
    full = picture(make, "an apple<lora:one:1>")
    assert not same(plain, full)
    assert same(plain, picture(make, "an apple<lora:one:0>"))
    half = picture(make, "an apple<lora:one:0.5>")
    assert 0 < np.abs(half - plain).mean() < np.abs(full - plain).mean()
    assert same(plain, picture(make))
    assert same(full, picture(make, "an apple<lora:one:1>"))
    assert same(full, picture(make, "an apple<lyco:one>"))


def test_the_parts_have_their_own_strength(make):
    plain = picture(make)
    text, unet = picture(make, "an apple<lora:one:1:0>"), picture(make, "an apple<lora:one:0:1>")
    both = picture(make, "an apple<lora:one:te=1:unet=1>")
    assert len({each.tobytes() for each in (plain, text, unet, both)}) == 4
    only = picture(make, "an apple<lora:picture only:1:0>")
    assert same(plain, only)
    assert not same(unet, picture(make, "an apple<lora:one:0:1:dyn=1>"))


def test_several_loras_in_either_order_and_one_twice(make):
    one_two = picture(make, "an apple<lora:one:0.7><lora:two:0.4>")
    two_one = picture(make, "an apple<lora:two:0.4><lora:one:0.7>")
    assert np.abs(one_two - two_one).max() <= 2
    assert not same(one_two, picture(make, "an apple<lora:one:0.7>"))
    twice = picture(make, "an apple<lora:one:0.5><lora:one:0.2>")
    assert np.abs(twice - picture(make, "an apple<lora:one:0.7>")).max() <= 2


def test_a_window_is_on_in_its_part_of_the_run(make):
    """The network is called three times: at 0, 1/3 and 2/3 of the way."""
    fields = {"sampler": "Euler", "scheduler": "Karras"}
    plain = picture(make, "an apple<lora:one:1:0>", **fields)
    whole = picture(make, "an apple<lora:one:1:1>", **fields)
    early = picture(make, "an apple<lora:one:1:end=0.5>", **fields)
    late = picture(make, "an apple<lora:one:1:start=0.5>", **fields)
    assert len({each.tobytes() for each in (plain, whole, early, late)}) == 4
    assert same(whole, picture(make, "an apple<lora:one:1:start=0:end=1>", **fields))
    assert np.abs(whole - picture(make, "an apple<lora:one:1:end=0.7>", **fields)).max() <= 1
    assert np.abs(plain - picture(make, "an apple<lora:one:1:start=0.9>", **fields)).max() <= 1
    assert same(early, picture(make, "an apple<lora:one:1:end=0.5>", **fields))


def test_a_window_of_no_length_puts_on_nothing_not_even_the_text_encoders_part(make):
    plain = picture(make)
    assert same(plain, picture(make, "an apple<lora:one:1:start=0.4:end=0.4>"))
    _, (recipe,) = make("an apple<lora:one:1:end=0>")
    assert recipe.used("lora") == []


def test_a_picture_with_a_window_is_the_same_in_a_batch_and_alone(make):
    prompt = "an apple<lora:one:1:end=0.5>"
    both, _ = make(prompt, count=2)
    assert same(both[1], picture(make, prompt, seed=8))


def test_weights_are_the_same_objects_after_a_job_that_failed(worker, make, run, ask):
    model = worker.engine.model(worker.library.find(ask().model))
    modules = model.networks.modules.values()
    before = [id(p) for module in modules for p in module.parameters()]
    key = model.text.weights
    events = run("an apple<lora:one:1>" + " apple" * 80_000)
    assert events[-1].kind == "failed"
    assert before == [id(p) for module in modules for p in module.parameters()]
    assert model.text.weights == key
    make("an apple<lora:one:1><lora:two:1:start=0.5>")
    assert before == [id(p) for module in modules for p in module.parameters()]


def test_when_memory_runs_out_room_is_made_and_the_networks_put_on_again(make, monkeypatch):
    expected = picture(make, "an apple<lora:one:1>")
    apply, left = Patcher.apply, [OutOfMemory("full")]

    def scarce(self, networks):
        if networks and left:
            raise left.pop()
        return apply(self, networks)

    monkeypatch.setattr(Patcher, "apply", scarce)
    assert same(expected, picture(make, "an apple<lora:one:1>"))
    assert left == []


def test_pictures_of_a_request_may_choose_their_loras(make):
    pictures, recipes = make("an apple{<lora:one:1>|<lora:two:1>|}", count=6)
    chosen = [tuple(used.name for used in recipe.used("lora")) for recipe in recipes]
    assert len(set(chosen)) > 1
    for recipe, made in zip(recipes[:3], pictures, strict=False):
        assert same(made, picture(make, recipe.request.prompt, seed=recipe.seed))


def test_words_that_a_lora_brings_are_words_while_it_is_on(make):
    words = picture(make, "a zork")
    (pixels,), (recipe,) = make("a zork<lora:words:1>")
    assert not same(words, pixels)
    assert same(picture(make, "an apple"), picture(make, "an apple<lora:words:1>"))
    assert recipe.used("embedding") == []


def test_a_hypernetwork_bends_the_picture_and_is_gone_afterwards(make, models):
    random = np.random.default_rng(3)
    tensors = {
        f"{width}.{side}.linear.{layer}.weight": random.standard_normal(shape).astype(np.float32)
        / 8
        for width in (64, 320)  # the tiny model's text, and one it does not have
        for side in (0, 1)
        for layer, shape in enumerate([(2 * width, width), (width, 2 * width)])
    }
    write_tensors(models / "bent.safetensors", tensors, {"activation_func": "relu"})
    plain = picture(make)
    (pixels,), (recipe,) = make("an apple<hypernet:bent:0.8>")
    assert not same(plain, pixels)
    assert same(plain, picture(make))
    assert same(plain, picture(make, "an apple<hypernet:bent:0>"))
    (used,) = recipe.used("hypernetwork")
    assert used.name == "bent"


def test_the_start_says_how_far_each_reaches(run):
    (started,) = (e for e in run("an apple<lora:one:1>") if e.kind == "started")
    (text,) = started.data["networks"]
    assert re.fullmatch(r"<lora:one> \d+ modules", text)


def test_the_start_says_what_of_a_lora_has_no_effect(run, models, checkpoint):
    idle = {"lora_unet_gone.alpha": np.ones((), np.float32)}
    kohya_lora(models / "leftover.safetensors", checkpoint, only=("unet",), extra=idle)
    (started, *_) = run("an apple<lora:leftover:1:0><lora:leftover:0.5>")
    off, on = started.data["networks"]
    assert re.fullmatch(r"<lora:leftover> 0 of \d+ modules, the others at strength 0; .*", off)
    assert on.endswith(" modules; 1 of its names have no effect here (first: lora_unet_gone)")


# ---- names and refusals -----------------------------------------------------------------------------


def test_a_lora_by_its_alias_and_by_its_hash(worker, make):
    _, (recipe,) = make("an apple<lora:one:1>")
    (used,) = recipe.used("lora")
    expected = picture(make, "an apple<lora:one:1>")
    for name in ("uno", used.sha256, used.sha256[:10], used.autov3):
        assert same(expected, picture(make, f"an apple<lora:{name}:1>"))


def test_a_name_that_is_not_here_is_refused_with_the_nearest(run):
    told = refusal(run, "an apple<lora:onne:1>")
    assert "'onne'" in told
    assert "'one'" in told


def test_a_choice_that_no_seed_has_reached_yet_is_refused_at_once(run):
    told = refusal(run, "an apple{<lora:one:1>|<lora:gone:1>}", count=30)
    assert "'gone'" in told


def test_a_file_of_that_name_that_is_no_lora_says_why(run, models):
    whole = (models / "one.safetensors").read_bytes()
    (models / "short.safetensors").write_bytes(whole[:-1000])
    assert "short.safetensors is truncated: 1,000 bytes" in refusal(run, "an apple<lora:short:1>")
    assert "not of the kind lora" in refusal(run, "an apple<lora:tiny:1>")


def test_a_lora_that_does_not_fit_is_refused_with_counts_and_a_reason(run):
    told = refusal(run, "an apple<lora:one:1><lora:unfit:1>")
    assert "unfit" in told
    assert "modules have another shape" in told


def test_a_strength_that_is_no_number_is_refused(run):
    assert "is no number" in refusal(run, "an apple<lora:one:high>")


def test_a_tag_in_the_negative_prompt_is_words(run):
    events = run(negative_prompt="<lora:gone:1>")
    said = [e.data["text"] for e in events if e.kind == "warning"]
    assert any("is read as words" in text for text in said)
    assert events[-1].kind == "done"


def notes(events):
    assert events[-1].kind == "done", events[-1].data
    return [e.data["text"] for e in events if e.kind == "warning"]


def test_a_name_that_means_two_files_is_said_and_a_whole_name_is_not(run, models, checkpoint):
    for folder, seed in (("a", 5), ("b", 6)):
        (models / folder).mkdir()
        kohya_lora(models / folder / "ink.safetensors", checkpoint, seed=seed)
    (note,) = notes(run("an apple<lora:ink:1>"))
    assert note == "'ink' is taken for 'a/ink', and could be 'b/ink': write the name in full"
    assert notes(run("an apple<lora:b/ink:1>")) == []


def test_a_name_that_is_not_here_is_said_at_strength_0_too(run):
    (note,) = notes(run("an apple<lora:nosuch:0><lora:one:0>"))
    assert note.startswith("the lora 'nosuch' is not here")


def test_the_old_hash_of_every_small_file_names_none(run):
    assert "unknown lora 'e3b0c442'" in refusal(run, "an apple<lora:e3b0c442:1>")


# ---- recipes ----------------------------------------------------------------------------------------


def test_the_recipe_names_the_files_and_makes_the_same_pixels(run, make, tmp_path, worker):
    (pixels,), (recipe,) = make("an apple<lora:one:0.6:1:start=0.3><lora:two:1>")
    assert [(used.role, used.name) for used in recipe.models] == [
        ("checkpoint", "tiny"), ("lora", "one"), ("lora", "two"),
    ]  # fmt: skip
    events = list(worker.run(recipe.again(), output=tmp_path, like=recipe))
    assert not [e for e in events if e.kind == "warning"]
    (path,) = (e.data["path"] for e in events if e.kind == "artifact")
    assert same(pixels, np.asarray(Image.open(path)).astype(int))


def test_redo_says_that_a_lora_is_another(run, make, models, checkpoint):
    path = kohya_lora(models / "changing.safetensors", checkpoint, seed=7)
    prompt = "an apple<lora:changing:1>"
    try:
        _, (recipe,) = make(prompt)
        kohya_lora(path, checkpoint, seed=8)
        said = [e.data["text"] for e in run(prompt, like=recipe) if e.kind == "warning"]
    finally:
        path.unlink()
    assert [text.startswith("LoRA 'changing': ") for text in said] == [True]


def test_a1111_finds_the_hashes_in_the_text_of_the_picture(make, run, models):
    events = run("an apple<lora:one:1>")
    (path,) = (e.data["path"] for e in events if e.kind == "artifact")
    recipe = read_recipe(Path(path))
    text = Image.open(path).text["parameters"]
    (used,) = recipe.used("lora")
    assert len(used.autov3) == 12
    assert f'Lora hashes: "one: {used.autov3}"' in text


# ---- VAEs -------------------------------------------------------------------------------------------


@pytest.fixture
def vae(models):
    """A file with another VAE."""
    random = np.random.default_rng(11)

    def write(name):
        tensors = {
            row.source: (random.standard_normal(row.stored) * 0.1).astype(np.float16)
            for row in tiny_layout()["vae"]
        }
        return write_tensors(models / name, tensors)

    yield write
    for path in models.glob("*vae*"):
        path.unlink()


def test_another_vae_makes_another_picture_and_is_in_the_recipe(make, run, vae):
    plain = picture(make)
    vae("my-vae.safetensors")
    (pixels,), (recipe,) = make(vae="my-vae")
    assert not same(plain, pixels)
    (used,) = recipe.used("vae")
    assert (used.name, recipe.request.vae) == ("my-vae", "my-vae")
    assert same(pixels, picture(make, vae=used.sha256))
    assert same(plain, picture(make, vae="baked"))
    _, (recipe,) = make()
    assert (recipe.used("vae"), recipe.request.vae) == ([], "baked")
    assert "'my-vea'" in refusal(run, vae="my-vea")


def test_the_vae_beside_the_checkpoint_is_its_own(make, checkpoint, vae):
    plain = picture(make)
    beside = vae("x.vae.safetensors").rename(checkpoint.with_name("tiny.vae.safetensors"))
    try:
        (pixels,), (recipe,) = make()
        baked = picture(make, vae="baked")
        again = picture(make, **{"vae": recipe.request.vae})
    finally:
        beside.unlink()
    assert not same(plain, pixels)
    assert same(plain, baked)
    assert same(pixels, again)
