"""The second run: sizes, enlarged latents, what it is asked for, and pictures."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from darkroom.core.errors import BadRequest
from darkroom.core.prompt import Style
from darkroom.core.request import ResolvedRequest
from darkroom.tasks.enlarge import Target
from darkroom.tasks.hires import around_of, enlarged, hires_request, target_of
from darkroom.tasks.wording import Wording

LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def resolved(width=512, height=512, **fields):
    own = {"prompt": "a fox", "steps": 20, "cfg_scale": 7, "seed": 3, "scheduler": "Karras"}
    return ResolvedRequest.parse(own | {"width": width, "height": height} | fields)


@pytest.mark.parametrize(
    ("size", "hires", "enlarged_to", "drawn"),
    [
        ((512, 768), {}, (1024, 1536), (1024, 1536)),
        ((512, 512), {"scale": 1.3}, (664, 664), (664, 664)),  # 665.6, rounded down
        ((512, 768), {"width": 768}, (768, 1152), (768, 1152)),
        ((512, 768), {"height": 1024}, (680, 1024), (680, 1024)),  # 682
        ((512, 768), {"width": 1024, "height": 1024}, (1024, 1536), (1024, 1024)),
        ((768, 512), {"width": 1024, "height": 1024}, (1536, 1024), (1024, 1024)),
        ((512, 512), {"width": 1024, "height": 1024}, (1024, 1024), (1024, 1024)),
        ((512, 768), {"width": 512, "height": 512, "scale": 3}, (512, 768), (512, 512)),
    ],
)
def test_sizes_are_a1111s(size, hires, enlarged_to, drawn):
    request = resolved(*size, hires=hires)
    found = target_of(request, request.hires)
    assert (found.enlarged, found.size) == (enlarged_to, drawn)


@pytest.mark.parametrize("hires", [{"scale": 8}, {"height": 8192}, {"width": 64}])
def test_what_is_too_large_or_too_small_is_refused(hires):
    with pytest.raises(BadRequest, match="hires would make the picture"):
        hires_request(resolved(2048, 1024, hires=hires))


def test_what_is_pasted_back_is_not_cropped():
    init = {"image": "sha256:" + 64 * "0"}
    request = resolved(init=init, mask={}, hires={"width": 512, "height": 768})
    with pytest.raises(BadRequest, match="would crop the picture"):
        hires_request(request)


@pytest.mark.parametrize(
    ("name", "mode", "antialias"),
    [
        ("Latent", "bilinear", False),
        ("latent (Antialiased)", "bilinear", True),
        ("Latent (bicubic)", "bicubic", False),
        ("Latent (bicubic antialiased)", "bicubic", True),
        ("Latent (nearest)", "nearest", False),
        ("Latent (nearest-exact)", "nearest-exact", False),
    ],
)
def test_latents_are_enlarged_by_torch_s_modes(name, mode, antialias):
    whole = Target((96, 128), (96, 96))
    found = enlarged(LATENTS, whole, name, tiling="none")
    expected = functional.interpolate(LATENTS, size=(16, 12), mode=mode, antialias=antialias)
    assert torch.equal(found, expected[..., 2:14, :])


@pytest.mark.parametrize(("tiling", "axis"), [("x", -1), ("y", -2), ("both", -1), ("both", -2)])
def test_what_wraps_is_enlarged_without_an_edge(tiling, axis):
    """Twice as large, a roll by one pixel is one by two."""
    whole = Target((128, 128), (128, 128))
    still = enlarged(LATENTS, whole, "Latent (bicubic)", tiling=tiling)
    moved = enlarged(LATENTS.roll(1, axis), whole, "Latent (bicubic)", tiling=tiling)
    assert torch.allclose(moved, still.roll(2, axis), atol=1e-5)
    plain = enlarged(LATENTS.roll(1, axis), whole, "Latent (bicubic)", tiling="none")
    assert not torch.allclose(plain, still.roll(2, axis), atol=1e-2)


@pytest.mark.parametrize(("tiling", "axis"), [("x", 1), ("y", 0), ("both", 1), ("both", 0)])
@pytest.mark.parametrize("side", [128, 96])
def test_what_wraps_is_enlarged_in_pixels_without_an_edge(tiling, axis, side):
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)

    def large(pixels):
        around = around_of(Target((side, side), (side, side)), (64, 64), tiling=tiling)
        whole = around.wrapped(Image.fromarray(pixels))
        return np.asarray(whole.resize(around.size, Image.Resampling.LANCZOS).crop(around.box))

    assert large(pixels).shape == (side, side, 3)
    moved = large(np.roll(pixels, 2, axis)).astype(int)
    assert np.abs(moved - np.roll(large(pixels), 2 * side // 64, axis)).max() <= 1


def test_the_strips_around_what_wraps_are_whole_pixels_at_any_scale():
    odd = around_of(Target((664, 512), (512, 512)), (512, 512), tiling="x")
    assert odd.margins == (64, 0) and odd.size == (664 + 2 * 83, 512)
    assert odd.box == (83 + 72, 0, 83 + 72 + 512, 512)  # multiples of 8 in the middle
    still = around_of(Target((664, 512), (664, 512)), (512, 512), tiling="none")
    assert still.margins == (0, 0) and still.box == (0, 0, 664, 512)


def test_the_second_run_is_as_the_first_but_for_what_is_set():
    request = resolved(hires={"steps": 7, "cfg_scale": 4, "prompt": "a red fox", "model": "other"})
    later = hires_request(request)
    set_by_hires = {"width", "height", "hires", "steps", "cfg_scale", "prompt", "model"}
    assert (later.width, later.height, later.steps, later.cfg_scale) == (1024, 1024, 7, 4)
    assert (later.prompt, later.model, later.hires) == ("a red fox", "other", None)
    assert later.model_dump(exclude=set_by_hires) == request.model_dump(exclude=set_by_hires)


def test_another_sampler_brings_its_own_schedule():
    assert hires_request(resolved(hires={"sampler": "Euler a"})).scheduler == "Uniform"
    assert hires_request(resolved(hires={"sampler": "Euler a Karras"})).scheduler == "Karras"
    assert hires_request(resolved(hires={})).scheduler == "Karras"


@pytest.mark.parametrize(("on", "kept"), [("first", False), ("second", True), ("both", True)])
def test_the_refiner_of_the_second_run(on, kept):
    request = resolved(hires={}, refiner={"model": "other", "on": on})
    assert (hires_request(request).refiner is not None) is kept


def test_regions_fade_as_widely_as_before():
    request = resolved(hires={}, regions=[{"prompt": "a cat", "box": [0, 0, 0.5, 1]}])
    assert hires_request(request).regions[0].feather == 32


def test_regions_stay_where_they_are_when_the_second_run_is_cropped():
    hires = {"width": 1024, "height": 512}  # the middle half of 1024 x 1024
    top = {"prompt": "a cat", "box": [0, 0.25, 1, 0.25]}
    (region,) = hires_request(resolved(hires=hires, regions=[top])).regions
    assert region.box == (0, 0, 1, 0.5) and region.feather == 32
    masked = {"prompt": "a cat", "mask": "sha256:" + 64 * "0"}
    with pytest.raises(BadRequest, match="mask of a region"):
        hires_request(resolved(hires=hires, regions=[masked]))
    assert hires_request(resolved(hires={}, regions=[masked])).regions[0].mask == masked["mask"]


# ---- pictures ------------------------------------------------------------------------------------


@pytest.fixture
def make(worker, ask, tmp_path):
    """The picture of a request, and its events."""

    def made(stop=bool, **fields):
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        events = list(worker.run(ask(**fields), output=target, stop=stop))
        assert events[-1].kind == "done", events[-1].data
        return Image.open(target).convert("RGB"), events

    return made


def stages(events):
    """How many steps each run took, by its stage."""
    steps = [event.data["stage"] for event in events if event.kind == "step"]
    return {stage: steps.count(stage) for stage in dict.fromkeys(steps)}


@pytest.mark.parametrize("upscaler", ["Latent", "Latent (nearest-exact)", "Lanczos"])
def test_a_second_run_does_all_of_its_steps(make, upscaler):
    picture, events = make(hires={"upscaler": upscaler, "strength": 0.3, "steps": 4})
    assert picture.size == (128, 128)
    assert stages(events) == {"": 3, "hires": 4}


def test_strength_0_only_enlarges(make):
    picture, events = make(hires={"upscaler": "Lanczos", "strength": 0})
    assert picture.size == (128, 128)
    assert "hires" not in {e.data["stage"] for e in events if e.kind == "step" and e.data["steps"]}


def test_strength_says_how_far_it_leaves_the_first(make):
    base = make(hires={"upscaler": "Lanczos", "strength": 0})[0]
    distances = [
        distance(make(hires={"upscaler": "Lanczos", "strength": share})[0], base)
        for share in (0.1, 0.5, 1.0)
    ]
    assert distances == sorted(distances)
    assert distances[0] < 0.6 * distances[-1]


def distance(one, other):
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return sum(abs(a - b) for a, b in pairs)


def test_its_prompt_is_its_own(make):
    plain = make(hires={"strength": 0.5})[0]
    assert make(hires={"strength": 0.5, "prompt": "an apple"})[0].tobytes() == plain.tobytes()
    assert make(hires={"strength": 0.5, "prompt": "a cat"})[0].tobytes() != plain.tobytes()


def test_edits_count_on_in_the_second_run(make):
    """[a:b:1.5] changes in the middle of it, [a:b:0.5] before it began."""
    plain = make(prompt="a cat", hires={"steps": 4})[0].tobytes()
    late = make(prompt="[a cat:a dog:1.5]", hires={"steps": 4})[0].tobytes()
    never = make(prompt="[a cat:a dog:2.0]", hires={"steps": 4})[0].tobytes()
    assert never == plain != late


def test_the_same_picture_in_a_batch_and_alone(make, worker, ask, tmp_path):
    hires = {"strength": 0.6, "upscaler": "Lanczos"}
    folder = tmp_path / "batch"
    events = list(worker.run(ask(count=2, hires=hires, seed=6), output=folder))
    assert events[-1].kind == "done", events[-1].data
    second = Image.open(events[-2].data["path"]).convert("RGB")
    assert second.tobytes() == make(seed=7, hires=hires)[0].tobytes()


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_a_finished_picture_stands_for_the_first_run(make, tmp_path, upscaler):
    path = tmp_path / "first.png"
    Image.radial_gradient("L").convert("RGB").resize((64, 64)).save(path)
    picture, events = make(hires={"first": str(path), "strength": 0.1, "upscaler": upscaler})
    assert picture.size == (128, 128)
    assert stages(events) == {"hires": 3}


def test_another_size_of_it_is_fitted_and_said(make, tmp_path):
    path = tmp_path / "first.png"
    Image.radial_gradient("L").convert("RGB").save(path)
    _, events = make(width=64, height=64, hires={"first": str(path)})
    said = [event.data["text"] for event in events if event.kind == "warning"]
    assert "the first picture is 256 x 256 and is fitted into 64 x 64 pixels" in said


def test_a_cancel_in_the_second_run_stops_it(worker, ask, tmp_path):
    steps = []
    request = ask(hires={"steps": 4})
    for event in worker.run(request, output=tmp_path, stop=lambda: len(steps) > 4):
        if event.kind == "step":
            steps.append(event)
    assert (event.kind, event.data["error"]) == ("failed", "Cancelled")
    assert not list(tmp_path.iterdir())


# ---- what its prompt says ------------------------------------------------------------------------


def worded(**fields):
    styles = {"warm": Style(name="warm", prompt="{prompt}, warm light", negative_prompt="cold")}
    request, notes = Wording(styles).of_picture(resolved(**fields), 0)
    return request, notes


def test_styles_and_choices_are_in_the_prompt_of_the_second_run_too():
    request, _ = worded(hires={"prompt": "a {red|blue} fox"}, styles=["warm"])
    assert request.hires.prompt in ("a red fox, warm light", "a blue fox, warm light")
    assert request.hires.negative_prompt is None  # as in the first run, which has the style's
    assert hires_request(request).negative_prompt == request.negative_prompt == "cold"


def test_prompts_of_regions_and_details_get_choices_and_no_styles():
    request, _ = worded(
        regions=[{"prompt": "a {cat|dog}", "box": [0, 0, 0.5, 1]}],
        detail=[{"prompt": "a {glad|sad} face"}],
        styles=["warm"],
    )
    assert request.regions[0].prompt in ("a cat", "a dog")
    assert request.detail[0].prompt in ("a glad face", "a sad face")


def test_networks_are_sought_in_all_prompts_that_may_name_one():
    request = resolved(
        prompt="a fox <lora:one:1>",
        hires={"prompt": "a fox <lora:two:1>"},
        detail=[{"prompt": "a face <lora:three:1>"}, {}],
    )
    assert [wish.name for wish in Wording().wishes(request)] == ["one", "two", "three"]


def test_notes_on_the_second_prompt_are_said():
    _, notes = worded(hires={"prompt": "a fox <nothing:1>"})
    assert any("<nothing:1> has no effect" in note for note in notes)
