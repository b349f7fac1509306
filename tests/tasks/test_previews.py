"""Previews of a run: by what they are made, what is refused, what they may cost."""

import json

import pytest
import torch
from PIL import Image

from darkroom.core.errors import OutOfMemory
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.preview import Previewing
from darkroom.library import previews as found_previews
from darkroom.tasks import previews
from darkroom.tasks.job import PREVIEW_SHARE, PreviewClock
from preview_files import tiny_state, written
from tiny import tiny_checkpoint


@pytest.fixture
def shown(worker, ask, tmp_path, monkeypatch):
    """Run with a setting for previews, each step shown: the pictures, the notes, the last event."""
    monkeypatch.setattr(PreviewClock, "due", lambda *_: True)
    monkeypatch.setattr(found_previews, "shipped_path", lambda: tmp_path / "none.safetensors")

    def run(preview, **fields):
        settings = worker._settings.model_copy(update={"preview": preview, "preview_seconds": 1})
        monkeypatch.setattr(worker, "_settings", settings)
        pictures, notes = [], []
        for event in worker.run(ask(**fields), output=tmp_path / "out"):
            if event.kind == "preview":
                with Image.open(event.data["path"]) as image:
                    pictures.append(image.copy())
            elif event.kind == "warning":
                notes.append(event.data["text"])
        return pictures, notes, event

    return run


@pytest.fixture
def decoder(checkpoint):
    """A tiny decoder beside the checkpoint, for SD1 or for one base."""
    made = []

    def write(name, metadata=None):
        path = written(checkpoint.parent / "VAE-approx" / name, tiny_state(), metadata)
        made.append(path)
        return path

    yield write
    for path in made:
        path.unlink()


@pytest.fixture
def own(checkpoint):
    """A checkpoint that brings latents of its own."""
    path = checkpoint.parent / "own.safetensors"
    rows = [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0, 0, 0], [0.5, 0.5, 0.5]]
    told = {"modelspec.resolution": "64x64", "darkroom.latent_rgb": json.dumps(rows)}
    yield tiny_checkpoint(path, metadata=told)
    path.unlink()


def same(one, other):
    return one.tobytes() == other.tobytes()


def test_auto_takes_the_decoder_where_one_fits_and_else_the_matrix(shown, decoder):
    matrix, notes, _ = shown("matrix")
    assert len(matrix) == 3 and not notes
    without, notes, _ = shown("auto")
    assert same(without[-1], matrix[-1]) and not notes
    decoder("taesd_decoder.safetensors")
    tiny, notes, last = shown("auto")
    assert last.kind == "done" and not notes
    assert tiny[-1].size == matrix[-1].size == (64, 64)
    assert not same(tiny[-1], matrix[-1])
    assert same(shown("tiny")[0][-1], tiny[-1])
    assert same(shown("taesd_decoder")[0][-1], tiny[-1])


def test_full_is_the_picture_itself_in_the_end(shown, tmp_path):
    pictures, _, last = shown("full")
    assert last.kind == "done"
    (saved,) = (tmp_path / "out").glob("*.png")
    with Image.open(saved) as image:
        assert same(pictures[-1], image.convert("RGB"))


def test_off_writes_nothing(shown):
    assert shown("off")[:2] == ([], [])


def test_a_decoder_of_another_base_is_refused_by_name_and_passed_over_by_itself(shown, decoder):
    decoder("mine.safetensors", {"darkroom.base": "5" * 64})
    _, _, last = shown("mine")
    assert last.kind == "failed"
    assert "was trained with the model whose SHA-256 begins with 5555555555" in last.data["text"]
    pictures, notes, last = shown("auto")
    assert last.kind == "done" and len(pictures) == 3
    assert len(notes) == 1 and "mine was trained with" in notes[0]
    _, _, last = shown("tiny")
    assert last.kind == "failed" and "taesd_decoder" in last.data["hint"]


def test_a_model_with_latents_of_its_own_takes_only_its_own_decoder(shown, decoder, own, worker):
    decoder("taesd_decoder.safetensors")
    _, _, last = shown("tiny", model="own")
    assert last.kind == "failed" and "no tiny preview decoder is for own" in last.data["text"]
    decoder("mine.safetensors", {"darkroom.base": worker.library.find("own").sha256})
    pictures, notes, last = shown("tiny", model="own")
    assert last.kind == "done" and len(pictures) == 3 and not notes


def test_a_preview_that_fails_ends_no_job(shown, decoder, monkeypatch):
    decoder("taesd_decoder.safetensors")

    def fail(*_args, **_more):
        raise OutOfMemory("no memory is left")

    monkeypatch.setattr("darkroom.engine.preview.PreviewDecoder.__call__", fail)
    pictures, notes, last = shown("tiny")
    assert last.kind == "done" and len(pictures) == 3
    assert notes == ["no memory is left; previews show the colours of the latent instead"]
    assert same(pictures[-1], shown("matrix")[0][-1])


def test_what_does_nothing_is_said(worker, ask, tmp_path, monkeypatch):
    settings = worker._settings.model_copy(update={"preview": "tiny"})
    monkeypatch.setattr(worker, "_settings", settings)
    told = [event.data.get("text") for event in worker.run(ask(), output=tmp_path)]
    assert "preview tiny does nothing: preview_seconds is 0" in told


class Watch:
    """A clock that only moves when it is told to."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Device:
    def empty_cache(self):
        pass


class Slow:
    """An engine whose decoder takes `rate` seconds for each latent pixel."""

    device = Device()

    def __init__(self, watch, rate):
        self.watch, self.rate, self.sizes = watch, rate, []

    def preview_decoder(self, _card):
        return self.draw

    def decode(self, _model, latent, *, plan, say):
        return self.draw(latent)

    def draw(self, latent):
        height, width = latent.shape[-2:]
        self.watch.now += self.rate * height * width
        self.sizes.append((height, width))
        return torch.zeros(8, 8, 3, dtype=torch.uint8)


class Rig:
    """A model at work."""

    def __init__(self, engine):
        self.engine = engine
        self.fitting = type("Fitting", (), {"plan": None})
        card = ModelCard(
            sha256="a" * 64, path="m", name="m", kind=Kind.CHECKPOINT, arch=Arch.SD1, bytes=1
        )
        self.model = type("Model", (), {"card": card, "preview": torch.zeros(5, 3)})


@pytest.mark.parametrize("side", [16, 64])
@pytest.mark.parametrize("rate", [1e-6, 1e-3])
@pytest.mark.parametrize("method", ["tiny", "full"])
def test_previews_never_take_more_than_their_share(tmp_path, monkeypatch, method, rate, side):
    watch = Watch()
    monkeypatch.setattr("darkroom.tasks.job.time", watch)
    monkeypatch.setattr(previews, "time", watch)
    engine, said = Slow(watch, rate), []
    card = ModelCard(sha256="d" * 64, path="t", name="t", kind=Kind.PREVIEW, arch=Arch.SD1, bytes=1)

    class Job:
        previews = tmp_path / "p.png"
        clock = PreviewClock(0.5, _started=0.0, _last=0.0)
        previewing = Previewing(method=method, decoders=(card,))

    maker, made = previews.Previews(engine, Job, say=said.append), 0
    for _ in range(400):
        watch.now += 1.0
        made += sum(1 for _ in maker.of(0, torch.zeros(4, side, side), Rig(engine)))
        first = rate * side * side if side == 16 and method == "tiny" else rate * side * side / 16
        assert Job.clock._spent <= PREVIEW_SHARE * watch.now + first
    assert made > 0
    if rate == 1e-6:
        assert made == 400 and not said
    elif side == 64:
        assert engine.sizes[0] == (8, 8) and made < 10
        assert bool(said) is (method == "full")
        assert not said or "the VAE takes about 4.1 s for a preview" in said[0]
