"""Whatever goes wrong, and wherever it does, no finished picture is lost.

A first run of every case notes the places that it comes by: the encoder, each network, the detector,
the disk. Then it is run again, with trouble at one of them. What must hold afterwards stands in
`ends_as_it_should` and `nothing_is_lost`. EVERYWHERE=1 in the environment tries every place, which
takes minutes.
"""

import gc
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.core.processing import CaptionRequest, CutoutRequest, UpscaleRequest
from darkroom.core.request import ImageRequest
from darkroom.core.series import BatchRequest, GridRequest
from darkroom.core.settings import Settings
from darkroom.jobs.worker import Worker
from darkroom.media.metadata import read_recipe
from drawn import ball, face_picture
from network_files import kohya_lora
from tiny import tiny_checkpoint, write_tensors
from trouble import FAULTS, Trouble, arranged, places_of

BALL, MASK, FACE = "ball.png", "mask.png", "face.png"  # in the folder of pictures
PLAIN = {"prompt": "an apple", "model": "first", "steps": 2, "seed": 7}
LORA = {"prompt": "an apple <lora:style:1>"}
BEGUN = {"init": {"image": BALL, "strength": 0.7}}
SOFT = {"mask": {"image": MASK, "softness": "soft"}}
WIDER = {"outpaint": {"left": 16, "blur": 2}}
HIRES = {"hires": {"scale": 1.5, "upscaler": "Latent"}}
DETAIL = {"detail": [{"detector": "object", "padding": 8, "blur": 2}]}
REFINED = {
    "refiner": {"model": "second", "switch_at": 0.5, "on": "both"},
    "scheduler": "Karras",
}

CASES = {
    "txt2img": {"count": 3},
    "img2img": BEGUN | LORA,
    "inpaint hard": BEGUN | {"mask": {"image": MASK}},
    "inpaint soft": BEGUN | SOFT,
    "inpaint only masked": BEGUN | {"mask": {"image": MASK, "area": "masked"}},
    "outpaint": BEGUN | WIDER,
    "loopback": BEGUN | {"loopback": {"loops": 2}},
    "hires in latents": HIRES | LORA,
    "hires in pixels": {"hires": {"scale": 1.5, "upscaler": "auto"}},
    "hires by another": {"hires": {"scale": 1.5, "model": "second"}} | LORA,
    "hires and a mask": BEGUN | SOFT | HIRES | DETAIL,
    "refiner": REFINED | LORA,
    "regions": {"regions": [{"prompt": "a pear", "box": [0.5, 0, 0.5, 1]}]},
    "tiling": {"tiling": "both"},
    "detail": {"width": 72} | DETAIL | LORA,
    "restore": {"init": {"image": FACE, "strength": 0}, "restore": {"model": "mender"}},
    "all of it": BEGUN | WIDER | HIRES | REFINED | DETAIL | LORA | {"tiling": "y", "count": 2},
    "upscale": {"kind": "upscale", "image": BALL, "scale": 2, "tile": 64},
    "upscale and paint": {
        "kind": "upscale",
        "image": BALL,
        "paint": {**PLAIN, "tile": 64, "overlap": 16},
    },
    "cutout": {"kind": "cutout", "image": BALL},
    "caption": {"kind": "caption", "image": BALL},
    "grid": {"kind": "grid", "base": PLAIN, "x": {"field": "steps", "values": "1-2"}},
    "batch": {
        "kind": "batch",
        "base": {"kind": "upscale", "image": "each", "scale": 2},
        "inputs": [BALL, MASK],
    },
}
KINDS = {
    "image": ImageRequest,
    "upscale": UpscaleRequest,
    "cutout": CutoutRequest,
    "caption": CaptionRequest,
    "grid": GridRequest,
    "batch": BatchRequest,
}
SERIES = ("grid", "batch")
LEVELS = {"memory once": 2, "nan once": 2}  # that a value may be off: another order of rounding
SMALLER_TILES = 16  # the same where a network sees less of a picture at a time
HOW = {  # a run may end, and what is said then: words of the error or of a warning
    "memory once": ("done", ""),
    "memory always": ("failed", "memory"),
    "nan once": ("done", "numbers overflowed"),
    "nan always": ("failed", "gives no"),
    "disk full": ("done failed", ""),
    "cancelled": ("done failed", ""),
    "closed": ("done closed", ""),
    "interrupted": ("interrupted", ""),
    "ours": ("failed", "a file is no file"),
    "mistake": ("failed", "made a mistake: RuntimeError: the program is wrong"),
}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    size = {"modelspec.resolution": "64x64"}
    first = tiny_checkpoint(folder / "first.safetensors", metadata=size)
    tiny_checkpoint(folder / "second.safetensors", seed=5, metadata=size)
    kohya_lora(folder / "style.safetensors", first)
    names = ("toRGB.0.weight", "stylegan_decoder.style_mlp.1.weight")
    write_tensors(folder / "mender.safetensors", {n: np.ones((4, 4), np.float32) for n in names})
    box = (12, 12, 44, 44)
    ball((64, 64), box=box)[0].save(folder / BALL)
    ball((64, 64), box=box, wall=(0, 0, 0), color=(255,) * 3)[0].save(folder / MASK)
    face_picture(60).save(folder / FACE)
    return folder


def started(studio):
    torch.set_num_threads(1)
    own = {"data_dir": studio / "data", "outputs_dir": studio / "out", "preview_seconds": 0}
    return Worker(Settings(**own, models_dirs=(studio,)))


@pytest.fixture(scope="module")
def worker(studio):
    return started(studio)


@pytest.fixture(scope="module")
def plain(studio):
    """What a fresh worker makes of a plain request."""
    return drawn(started(studio), studio / "fresh")


@pytest.fixture
def now(monkeypatch, worker):
    return arranged(monkeypatch, type(first_model(worker).networks.unet))


def request_of(case, studio):
    fields = placed(CASES[case], studio)
    kind = fields.pop("kind", "image")
    return KINDS[kind].parse(PLAIN | fields if kind == "image" else fields)


def placed(value, studio):
    """`value` with the names of pictures as paths."""
    match value:
        case dict():
            return {name: placed(own, studio) for name, own in value.items()}
        case list():
            return [placed(own, studio) for own in value]
    return str(studio / value) if value in (BALL, MASK, FACE) else value


# ---- runs ----------------------------------------------------------------------------------------


@dataclass
class Ended:
    """What came of a run."""

    events: list
    how: str  # done, failed, closed or interrupted

    @property
    def said(self):
        """The error, or what was warned of."""
        last = [self.events[-1]] if self.how == "failed" else []
        warned = [event for event in self.events if event.kind == "warning"]
        return " ".join(event.data["text"] for event in (*warned, *last))


def run(worker, request, out, trouble):
    """Run a request with nothing but the first checkpoint in memory."""
    worker.engine.make_room(first_model(worker))
    events = []

    def stop():
        return trouble.kind == "cancelled" and trouble.here

    stream = worker.run(request, output=out, stop=stop)
    try:
        for event in stream:
            events.append(event)
            if trouble.kind == "closed" and trouble.here:
                stream.close()
                return Ended(events, "closed")
    except KeyboardInterrupt:
        return Ended(events, "interrupted")
    return Ended(events, events[-1].kind)


def undisturbed(worker, request, out, now):
    """The places that a run comes by, and its pictures."""
    for folder in (out / "warm", out / "truth"):  # what is loaded once is loaded then
        trouble = now[0] = Trouble()
        ended = run(worker, request, folder, trouble)
        assert ended.how == "done", ended.said
    now[0] = Trouble()
    return trouble.trail, pictures(folder)


def drawn(worker, folder):
    *_, artifact, _ = worker.run(ImageRequest.parse(PLAIN), output=folder)
    return pixels(artifact.data["path"])


def first_model(worker):
    return worker.engine.model(worker.library.find("first"))


def pixels(path):
    with Image.open(path) as made:
        return np.asarray(made)


def pictures(folder):
    """The pictures in a folder by what they are: their name in a series, else their seed."""
    paths = sorted(folder.glob("*.png"))
    if (folder / "series.json").exists():
        return {path.name: pixels(path) for path in paths}
    found = {read_recipe(path).seed: pixels(path) for path in paths}
    assert len(found) == len(paths), "a picture is there twice"
    return found


# ---- what must hold ------------------------------------------------------------------------------


def ends_as_it_should(case, fault, ended):
    how, words = HOW[fault]
    if case == "caption" and fault == "nan once":  # there is no second try in words
        how = "failed"
    assert ended.how in how.split(), (ended.how, ended.said)
    assert words in ended.said or (case == "caption" and "gives no" in ended.said)
    if ended.how == "failed" and fault != "cancelled" and case not in SERIES:
        assert ended.events[-1].data["hint"]
    if fault != "mistake":
        assert "mistake" not in ended.said


def nothing_is_lost(worker, case, ended, *, out, again, truth, kept):
    """Every picture is whole or comes back; `again` runs the request, `kept` latents were kept."""
    assert not [path for path in out.rglob(".*") if path.is_file()], "something half-written"
    before = pictures(out)
    reported = {event.data["path"] for event in ended.events if event.kind == "artifact"}
    assert reported <= {str(path) for path in out.rglob("*.png")}
    if case in SERIES:
        assert ended.how == "done" or again().how == "done"
    else:
        recovered = list(worker.recover(output=out))
        assert [event.data for event in recovered if event.kind == "failed"] == []
        count = sum(event.kind == "artifact" for event in recovered)
        assert count == max(0, kept - len(before)), "what was sampled is not kept"
        assert not worker.unfinished.exists() or not any(worker.unfinished.iterdir())
    made = pictures(out)
    if ended.how == "done" or case in SERIES:
        assert made.keys() == truth.keys()
    return made


def same(made, truth, levels=0):
    for key, picture in made.items():
        assert picture.shape == truth[key].shape
        off = np.abs(picture.astype(int) - truth[key]).max()
        assert off <= levels, f"picture {key} is {off} off"


def redone(worker, out, request, levels):
    """Every picture in `out`, made again from its recipe, is the same.

    A recipe says how a run was done, and not that it was done another way at first.
    """
    for path in sorted(out.glob("*.png")):
        recipe = read_recipe(path)
        like = recipe if isinstance(request, ImageRequest) else None
        events = list(worker.run(recipe.again(), output=out / "redone", like=like))
        (again,) = (event.data["path"] for event in events if event.kind == "artifact")
        same({0: pixels(again)}, {0: pixels(path)}, levels)


def intact(worker):
    """What are the same objects after every run: weights, and nothing is hung onto a module."""
    model = first_model(worker)
    networks = (model.networks.unet, model.vae.module, *model.networks.texts)
    modules = [module for network in networks for module in network.modules()]
    return (
        [(id(t), t.data_ptr(), t.dtype) for n in networks for t in n.parameters()],
        [sorted(module.__dict__) for module in modules],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        model.text.weights,
    )


def held():
    """Open files, and tensors that something keeps alive."""
    gc.collect()
    folder = Path("/proc/self/fd")
    tensors = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
    return len(list(folder.iterdir())) if folder.is_dir() else 0, tensors


def chosen(places, case, fault):
    """One of the places, another one for each case and fault."""
    if not places or os.environ.get("EVERYWHERE"):
        return places
    return [places[crc32(f"{case} {fault}".encode()) % len(places)]]


@pytest.mark.parametrize("case", CASES)
def test_whatever_goes_wrong_nothing_is_lost(worker, studio, plain, now, tmp_path, case):
    request = request_of(case, studio)
    trail, truth = undisturbed(worker, request, tmp_path, now)
    assert (drawn(worker, tmp_path / "before") == plain).all()
    before, weights = held(), intact(worker)
    problems = []
    for fault in FAULTS:
        for at in chosen(places_of(trail, fault), case, fault):
            try:
                troubled(worker, case, Trouble(fault, at), request, truth, tmp_path, now)
                assert fault.startswith("memory") or intact(worker) == weights, "the model changed"
            except AssertionError as error:
                problems.append(f"{fault} at {at} {trail[at]}: {error}")
            weights = intact(worker)
            shutil.rmtree(worker.unfinished, ignore_errors=True)
    now[0] = Trouble()
    assert problems == []
    assert (drawn(worker, tmp_path / "after") == plain).all()
    assert all(mine <= theirs for mine, theirs in zip(held(), before, strict=True))


def troubled(worker, case, trouble, request, truth, folder, now):
    """One run with trouble."""
    out = folder / f"{trouble.kind} {trouble.at}"
    now[0] = trouble
    ended = run(worker, request, out, trouble)
    now[0] = Trouble()
    assert trouble.here, "it never came to that"
    ends_as_it_should(case, trouble.kind, ended)
    made = nothing_is_lost(
        worker,
        case,
        ended,
        out=out,
        again=lambda: run(worker, request, out, Trouble()),
        truth=truth,
        kept=trouble.kept,
    )
    smaller = trouble.kind == "memory once" and trouble.trail[trouble.at] == "tile"
    levels = SMALLER_TILES if smaller else LEVELS.get(trouble.kind, 0)
    same(made, truth, levels)
    if trouble.kind == "memory once" and case not in SERIES:
        redone(worker, out, request, levels)
