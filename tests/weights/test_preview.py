"""Preview decoders are told from their tensors: which family, how deep, for which latents."""

import pytest
import torch

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch, Kind
from darkroom.weights.detect import detect
from darkroom.weights.header import read_header
from darkroom.weights.identify import identify
from darkroom.weights.preview import DIALECTS, detect_preview, preview_arch
from darkroom.weights.probe import probe
from preview_files import APPROX, TAESD, approx_state, tiny_dims, tiny_state, written

SHAPES = [
    {},
    {"blocks": (3, 3, 3, 1), "widths": (8,) * 4},
    {"blocks": (0, 0, 0, 0)},
    {"blocks": (0, 2, 0, 5), "widths": (3, 9, 5, 7)},
]


@pytest.mark.parametrize(("prefix", "shift"), DIALECTS)
@pytest.mark.parametrize("own", SHAPES, ids=str)
def test_every_depth_is_measured_in_every_numbering(tmp_path, prefix, shift, own):
    dims = tiny_dims(**own)
    header = read_header(written(tmp_path / "a.safetensors", tiny_state(dims, prefix, shift)))
    found = detect_preview(header)
    assert found.dims == dims and found.dims.factor == 8
    assert {row.source for row in found.rows} == set(header.tensors)
    assert len({row.target for row in found.rows}) == len(found.rows)


def test_the_published_files_have_these_names():
    names = tiny_state(TAESD)
    assert {"1.weight", "3.conv.4.bias", "7.weight", "17.weight", "18.conv.0.weight"} <= set(names)
    assert names["19.weight"].shape == (3, 64, 3, 3) and "7.bias" not in names
    assert sum(value.numel() for value in names.values()) == 1_222_531
    assert sum(value.numel() for value in approx_state().values()) == 52_395


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("prefix", ["taesd_", ""])
def test_a_file_with_the_encoder_too_is_a_decoder(tmp_path, suffix, prefix):
    state = tiny_state(prefix=f"{prefix}decoder.")
    state |= {f"{prefix}encoder.0.weight": torch.zeros(8, 3, 3, 3), "vae_scale": torch.ones(1)}
    header = read_header(written(tmp_path / f"taesd{suffix}", state))
    assert identify(header).kind is Kind.PREVIEW
    assert detect_preview(header).dims == tiny_dims()


def test_vae_approx_is_told_and_measured(tmp_path):
    header = read_header(written(tmp_path / "model.pt", approx_state()))
    found = identify(header)
    assert (found.kind, found.arch) == (Kind.PREVIEW, Arch.SD1)
    assert found.label == "a preview decoder (VAE-approx) for SD1"
    assert detect_preview(header).dims == APPROX


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("taesd_decoder", Arch.SD1),
        ("taesdxl_decoder", Arch.SDXL),
        ("vaeapprox-sdxl", Arch.SDXL),
        ("taesdxl/diffusion_pytorch_model", Arch.SDXL),
        ("sdxl/taesd_decoder", Arch.SD1),
        ("plain", Arch.SD1),
    ],
)
def test_words_tell_the_family_since_shapes_do_not(tmp_path, name, arch):
    header = read_header(written(tmp_path / f"{name}.safetensors", tiny_state()))
    assert preview_arch(header) is identify(header).arch is arch


def test_as_a_checkpoint_it_is_refused_with_its_use(tmp_path):
    header = read_header(written(tmp_path / "taesd.safetensors", tiny_state()))
    with pytest.raises(BadFile, match=r"a preview decoder \(TAESD\) for SD1") as error:
        detect(header)
    assert error.value.hint == "Use it with --preview, together with a checkpoint."


def test_ours_is_for_a_model_and_not_for_a_family(tmp_path):
    told = {"darkroom.base": "5" * 64}
    header = read_header(written(tmp_path / "taesd.safetensors", tiny_state(), told))
    assert identify(header).arch is Arch.OTHER


@pytest.mark.parametrize(
    ("channels", "family"), [(16, "Stable Diffusion 3"), (32, "Flux.2"), (5, "5 channels")]
)
def test_decoders_of_other_latents_are_refused_by_name(tmp_path, channels, family):
    state = tiny_state(tiny_dims(latent_channels=channels))
    header = read_header(written(tmp_path / "taesd3_decoder.safetensors", state))
    with pytest.raises(BadFile, match=family):
        detect_preview(header)
    found = probe(header)
    assert family in found.label and not found.runs and family in found.problems[0]


def spoiled(**changes):
    state = tiny_state()
    for name, value in changes.items():
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


LAST = max(
    (name for name in tiny_state() if name.endswith(".weight")), key=lambda n: int(n.split(".")[0])
)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"1.conv.0.weight": torch.zeros(8, 8, 3, 3), "0.weight": torch.zeros(8, 3, 3, 3)}, "only the encoder"),
        (spoiled(**{LAST: None}), "nothing comes after"),
        (spoiled(**{"3.conv.2.weight": None}), "3.conv.2.weight has the shape None"),
        (spoiled(**{"3.conv.2.weight": torch.zeros(8, 8, 1, 1)}), r"shape \(8, 8, 1, 1\)"),
        (spoiled(**{"3.conv.2.weight": torch.zeros(8, 8, 3, 3, dtype=torch.int8)}), "no fraction"),
        (spoiled(**{"3.skip.weight": torch.zeros(8, 8, 1, 1)}), "another build"),
        (tiny_state(tiny_dims(widths=(8, 8, 4), blocks=(1, 1, 0))), "4 pixels of one"),
        (tiny_state(tiny_dims(widths=(2048, 1, 1, 1), blocks=(0,) * 4)), "2048"),
        (approx_state() | {"conv5.weight": torch.zeros(32, 64, 4, 4)}, "channels"),
        (approx_state() | {"conv5.bias": torch.zeros(1)}, "conv5.bias has the shape"),
    ],
)  # fmt: skip
def test_what_is_no_whole_decoder_is_refused(tmp_path, state, why):
    header = read_header(written(tmp_path / "taesd.safetensors", state))
    with pytest.raises(BadFile, match=why):
        detect_preview(header)
