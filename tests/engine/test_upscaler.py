"""Networks that enlarge pictures: computed as their papers say, in tiles without a seam."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from darkroom.core.errors import BadRequest, Cancelled, NotFinite, OutOfMemory
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.engine.device import choose_device
from darkroom.engine.mosaic import Tiling
from darkroom.engine.upscaler import Upscaler, load_upscaler
from darkroom.weights.layouts.rrdb import DIALECTS, OLD_ESRGAN
from darkroom.weights.upscaler_files import builtin
from upscaler_files import compact_dims, compact_state, ncnn, rrdb_dims, rrdb_state, saved


def card(path):
    return ModelCard(
        sha256="0" * 64,
        path=str(path),
        name=path.stem,
        kind=Kind.UPSCALER,
        arch=Arch.OTHER,
        bytes=1,
    )


def load(path):
    return load_upscaler(card(path), choose_device("cpu"))


@pytest.fixture(scope="module")
def shipped():
    torch.set_num_threads(1)
    return load_upscaler(builtin("auto"), choose_device("cpu"))


def photo(width=96, height=80, *, seed=0):
    """Something smooth with edges in it."""
    down, across = np.mgrid[:height, :width] / 16
    random = np.random.default_rng(seed)
    waves = [np.sin(down * random.uniform(0, 2) + across * random.uniform(0, 2)) for _ in range(3)]
    pixels = np.stack(waves, 2) * 100 + 128
    pixels[height // 3 :, width // 2 :] *= 0.4
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def by_paper(state, x, dims):
    """RRDBNet written down again from section 3.1 of the paper, on plain tensors."""

    def conv(x, name):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def active(x):
        return torch.where(x > 0, x, 0.2 * x)

    height, width = x.shape[2:]
    if dims.shuffle > 1:
        s = dims.shuffle
        x = functional.pad(x, (0, -width % s, 0, -height % s), mode="replicate")
        b, c, h, w = x.shape
        x = x.view(b, c, h // s, s, w // s, s).permute(0, 1, 3, 5, 2, 4)
        x = x.reshape(b, c * s * s, h // s, w // s)
    first = y = conv(x, "conv_first")
    for block in range(dims.blocks):
        into = y
        for dense in (1, 2, 3):
            name, seen = f"body.{block}.rdb{dense}", [y]
            for n in (1, 2, 3, 4):
                made = active(conv(torch.cat(seen, 1), f"{name}.conv{n}"))
                if dims.beside and n == 2:
                    made = made + functional.conv2d(y, state[f"{name}.conv1x1.weight"])
                if dims.beside and n == 4:
                    made = made + seen[2]
                seen.append(made)
            y = y + 0.2 * conv(torch.cat(seen, 1), f"{name}.conv5")
        y = into + 0.2 * y
    y = first + conv(y, "conv_body")
    for up in range(dims.doublings):
        y = y.repeat_interleave(2, 2).repeat_interleave(2, 3)
        y = active(conv(y, f"conv_up{up + 1}"))
    y = conv(active(conv(y, "conv_hr")), "conv_last")
    return y[..., : height * dims.scale, : width * dims.scale]


@pytest.mark.parametrize(
    "own",
    [{}, {"doublings": 1}, {"shuffle": 2}, {"shuffle": 4}, {"beside": True}, {"channels": 1}],
    ids=str,
)
def test_rrdb_is_what_the_paper_says(tmp_path, own):
    dims = rrdb_dims(**own)
    state = rrdb_state(dims)
    upscaler = load(saved(tmp_path / "a.safetensors", state))
    x = torch.rand(2, dims.channels, 9, 7)
    made, wanted = upscaler.module(x), by_paper(state, x, dims)
    assert made.shape == (2, dims.channels, 9 * dims.scale, 7 * dims.scale)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5)


def test_the_compact_network_is_what_its_parts_say(tmp_path):
    dims = compact_dims(scale=3)
    state = compact_state(dims)
    upscaler = load(saved(tmp_path / "a.safetensors", state))
    x = y = torch.rand(1, 3, 6, 5)
    for place in range(0, 7, 2):
        name = f"body.{place}"
        y = functional.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
        if place < 6:
            slope = state[f"body.{place + 1}.weight"].view(1, -1, 1, 1)
            y = torch.where(y > 0, y, slope * y)
    y = y.view(1, 3, 3, 3, 6, 5).permute(0, 1, 4, 2, 5, 3).reshape(1, 3, 18, 15)
    wanted = y + x.repeat_interleave(3, 2).repeat_interleave(3, 3)
    torch.testing.assert_close(upscaler.module(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("end", [".safetensors", ".pth"])
def test_every_dialect_gives_the_same_picture(tmp_path, end):
    made = []
    for number, dialect in enumerate(DIALECTS):
        dims = rrdb_dims(doublings=1)
        state = rrdb_state(dims)
        here = {ours: name for name, ours in dialect.names(dims)}
        renamed = {
            f"{here[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value
            for name, value in state.items()
        }
        around = {"iter": 4} if number == 1 else {}
        made.append(load(saved(tmp_path / f"{number}{end}", renamed, **around))(photo()))
    assert made[0].size == (192, 160)
    assert made[0].tobytes() == made[1].tobytes() == made[2].tobytes()


def test_half_precision_in_the_file_is_computed_in_the_devices_format(tmp_path):
    state = {name: value.half() for name, value in rrdb_state(rrdb_dims(), OLD_ESRGAN).items()}
    upscaler = load(saved(tmp_path / "a.pth", state))
    assert {value.dtype for value in upscaler.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("dims", [rrdb_dims(), compact_dims()], ids=["rrdb", "compact"])
def test_ncnns_files_give_the_same_picture_as_ours(tmp_path, dims):
    param, state = ncnn(tmp_path, "small", dims)
    plain = saved(tmp_path / "a.safetensors", state)
    assert load(param)(photo()).tobytes() == load(plain)(photo()).tobytes()


def seam(tiled, whole, at):
    """Mean step of the difference across the columns `at`, over that everywhere: 1 is no seam."""
    steps = np.abs(np.diff(np.asarray(tiled, float), axis=1)).mean((0, 2))
    usual = np.abs(np.diff(np.asarray(whole, float), axis=1)).mean((0, 2))
    return steps[at].mean() / usual[at].mean()


@pytest.mark.slow
def test_no_seam_is_seen_between_tiles(shipped):
    picture = photo(300, 260)
    whole = shipped(picture, Tiling(tile=512, overlap=16))
    tiling = Tiling(tile=64, overlap=16)
    tiled = shipped(picture, tiling)
    starts = tiling.starts(300)
    borders = [2 * side - 1 for start in starts[1:] for side in (start, start + 8, start + 16)]
    assert seam(tiled, whole, borders) == pytest.approx(1, abs=0.05)
    off = np.abs(np.asarray(tiled, float) - np.asarray(whole, float))
    assert off.max() <= 3 and off.mean() < 0.02


def test_every_mode_and_size_keeps_its_kind(shipped):
    colour = photo(33, 21)
    clear = colour.copy()
    clear.putalpha(photo(33, 21, seed=1).convert("L"))
    for picture in (colour, clear, colour.convert("L"), clear.convert("LA")):
        made = shipped(picture)
        assert (made.mode, made.size) == (picture.mode, (66, 42))
    assert shipped(Image.new("RGB", (1, 1), "red")).size == (2, 2)
    assert shipped(colour.quantize()).mode == "RGB"
    assert shipped(clear).convert("RGB").tobytes() == shipped(colour).tobytes()


def test_what_nobody_sees_does_not_show_at_the_edge(shipped):
    """Transparent black around a colour is no black rim."""
    clear = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    clear.paste((230, 200, 40, 255), (20, 10, 40, 30))
    made = np.asarray(shipped(clear))
    seen = made[made[..., 3] > 16]
    assert seen[:, 0].min() > 215 and seen[:, 1].min() > 185


def test_an_opacity_that_is_everywhere_the_same_needs_no_network(shipped):
    calls = []
    half = Image.new("RGBA", (48, 40), (9, 90, 9, 128))
    made = shipped(half, check=lambda: calls.append(1))
    assert made.getchannel("A").getextrema() == (128, 128) and len(calls) == 1


def test_a_network_for_grey_sees_the_colours_one_by_one(tmp_path):
    upscaler = load(saved(tmp_path / "a.safetensors", compact_state(compact_dims(channels=1))))
    colour = photo(20, 20)
    made = upscaler(colour)
    for channel in range(3):
        one = upscaler(colour.getchannel(channel))
        assert made.getchannel(channel).tobytes() == one.tobytes()


class Fails(torch.nn.Module):
    """Doubles pixels; raises or gives NaN where it is told to."""

    def __init__(self, largest=10**6, broken=()):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.largest, self.broken, self.seen = largest, broken, []

    def forward(self, x):
        self.seen.append((max(x.shape[2:]), x.dtype))
        if max(x.shape[2:]) > self.largest:
            raise RuntimeError("out of memory")
        if x.dtype in self.broken:
            x = x * torch.nan
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_when_memory_runs_out_tiles_become_smaller():
    network, said = Fails(largest=70), []
    upscaler = Upscaler(network, choose_device("cpu"), scale=2)
    made = upscaler(photo(200, 100), Tiling(tile=256, overlap=64), say=said.append)
    assert made.tobytes() == photo(200, 100).resize((400, 200), Image.Resampling.NEAREST).tobytes()
    assert said == [
        "memory ran out; trying again with tiles of 100 px",
        "memory ran out; trying again with tiles of 50 px",
    ]


def test_when_even_small_tiles_are_too_large_it_is_an_error_in_words():
    upscaler = Upscaler(Fails(largest=8), choose_device("cpu"), scale=2)
    with pytest.raises(OutOfMemory, match="ran out of memory"):
        upscaler(photo())


def test_what_overflows_is_computed_again_in_higher_precision():
    network, said = Fails(broken=(torch.float16,)).half(), []
    made = Upscaler(network, choose_device("cpu"), scale=2)(photo(), say=said.append)
    assert made.tobytes() == photo().resize((192, 160), Image.Resampling.NEAREST).tobytes()
    assert said == ["numbers overflowed in the upscaler; repeated in higher precision"]
    assert network.weight.dtype is torch.float16


def test_a_network_without_numbers_is_refused():
    network = Fails(broken=(torch.float32, torch.float64))
    with pytest.raises(NotFinite, match="the upscaler gives no picture"):
        Upscaler(network, choose_device("cpu"), scale=2)(photo())


def test_it_can_be_stopped_between_two_tiles():
    network, calls = Fails(), []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        Upscaler(network, choose_device("cpu"), scale=2)(
            photo(), Tiling(tile=32, overlap=8), check=check
        )
    assert len(network.seen) == 2


def other_family(tmp_path):
    names = ("conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight")
    return saved(tmp_path / "swin.safetensors", {name: torch.ones(2, 2) for name in names})


def test_another_family_names_the_library_and_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(BadRequest, match=r"SwinIR.*spandrel") as caught:
        load(other_family(tmp_path))
    assert "-m pip install spandrel" in caught.value.hint


def test_spandrel_is_given_tensors_and_what_it_gives_is_run(tmp_path, monkeypatch):
    class Descriptor:
        def __init__(self):
            self.model, self.scale, self.input_channels, self.supports_half = Fails(), 2, 3, True

        def __call__(self, x):
            return self.model(x)

    class Loader:
        def __init__(self, device):
            pass

        def load_from_state_dict(self, state):
            assert all(isinstance(value, torch.Tensor) for value in state.values())
            return Descriptor()

    class Spandrel:
        ModelLoader, ImageModelDescriptor = Loader, Descriptor
        UnsupportedModelError = KeyError

    monkeypatch.setitem(sys.modules, "spandrel", Spandrel)
    upscaler = load(other_family(tmp_path))
    assert upscaler.scale == 2
    assert upscaler(photo()).size == (192, 160)


def test_spandrel_itself_builds_a_family_of_its_own(tmp_path):
    pytest.importorskip(
        "spandrel",
        reason="spandrel needs torchvision, which cannot be imported beside this build of torch",
        exc_type=ImportError,
    )
    from spandrel.architectures.SPAN import SPAN

    network = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2)
    upscaler = load(saved(tmp_path / "span.safetensors", network.state_dict()))
    assert upscaler.scale == 2
    assert upscaler(photo()).size == (192, 160)


def test_the_shipped_one_is_small_and_better_than_lanczos(shipped):
    assert builtin("auto").bytes <= 1_500_000
    assert shipped.scale == 2
    large = Image.new("RGB", (96, 96), "white")
    large.paste("navy", (20, 20, 70, 61))
    large.paste("orange", (41, 33, 90, 50))
    small = large.resize((48, 48), Image.Resampling.BICUBIC)
    truth = np.asarray(large, float)
    error = np.mean((np.asarray(shipped(small), float) - truth) ** 2)
    lanczos = np.asarray(small.resize((96, 96), Image.Resampling.LANCZOS), float)
    assert error < 0.7 * np.mean((lanczos - truth) ** 2)
