"""New checkpoints from old ones: what is written is what the formulas say, and every program can read it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from darkroom.core.errors import BadRequest
from darkroom.weights.header import read_header
from darkroom.weights.merge import Mix, carried, lineage, merged, pieces_of, with_vae
from darkroom.weights.whole import Canonical, open_vae, open_whole
from darkroom.weights.writer import write_safetensors
from tiny import tiny_checkpoint

IN0 = "model.diffusion_model.input_blocks.0.0.weight"
IN1 = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
OUT = "model.diffusion_model.out.2.weight"
TIME = "model.diffusion_model.time_embed.0.weight"
MID = "model.diffusion_model.middle_block.0.in_layers.2.weight"
TEXT = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
VAE = "first_stage_model.decoder.conv_in.weight"


def written(path: Path, pieces: list) -> dict[str, torch.Tensor]:
    table = {piece.name: (piece.dtype, piece.shape) for piece in pieces}
    write_safetensors(path, table, (piece.data() for piece in pieces))
    return load_file(path)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("models")

    def made(name: str, **told: object) -> Path:
        path = folder / f"{name}.safetensors"
        return path if path.exists() else tiny_checkpoint(path, **told)  # type: ignore[arg-type]

    return made


def merge(paths: list[Path], mix: Mix, target: Path) -> dict[str, torch.Tensor]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        files = [stack.enter_context(open_whole(read_header(path))) for path in paths]
        return written(target, list(merged(files, mix)))


def test_a_checkpoint_comes_back_tensor_by_tensor(make, tmp_path):
    source = make("a", seed=1)
    with open_whole(read_header(source)) as whole:
        copy = written(tmp_path / "copy.safetensors", [*pieces_of(whole), *carried(whole)])
    before = load_file(source)
    assert copy.keys() == before.keys()
    assert all(torch.equal(copy[name], before[name]) for name in before)


def test_what_no_network_uses_is_left_out(make, tmp_path):
    import numpy as np

    ema = {"model_ema.decay": np.ones(1, np.float32), "alphas_cumprod": np.ones(9, np.float32)}
    source = make("ema", seed=1, extra=ema)
    with open_whole(read_header(source)) as whole:
        copy = written(tmp_path / "pruned.safetensors", [*pieces_of(whole), *carried(whole)])
    assert load_file(source).keys() - copy.keys() == ema.keys()


def test_floats_are_written_as_asked(make, tmp_path):
    with open_whole(read_header(make("a", seed=1))) as whole:
        copy = written(tmp_path / "bf16.safetensors", list(pieces_of(whole, dtype="BF16")))
    assert {tensor.dtype for tensor in copy.values()} == {torch.bfloat16}


def test_the_weighted_sum_is_taken_in_single_precision(make, tmp_path):
    paths = [make("a", seed=1), make("b", seed=2)]
    result = merge(paths, Mix(0.3), tmp_path / "sum.safetensors")
    a, b = (load_file(path) for path in paths)
    for name in (IN0, MID, TEXT, VAE):
        wanted = (0.7 * a[name].double() + 0.3 * b[name].double()).half()
        assert torch.allclose(result[name].double(), wanted.double(), atol=1e-3)
    assert not torch.equal(result[IN0], a[IN0])


def test_a_share_of_nothing_and_of_everything(make, tmp_path):
    paths = [make("a", seed=1), make("b", seed=2)]
    for share, same in ((0.0, 0), (1.0, 1)):
        result = merge(paths, Mix(share), tmp_path / f"{share}.safetensors")
        wanted = load_file(paths[same])
        assert all(torch.allclose(result[name], wanted[name], atol=2e-3) for name in wanted)


def test_adding_a_difference_to_its_own_origin_gives_the_tuned_model(make, tmp_path):
    base, tuned = make("a", seed=1), make("b", seed=2)
    result = merge([base, tuned, base], Mix(1.0), tmp_path / "diff.safetensors")
    wanted = load_file(tuned)
    assert all(torch.allclose(result[name], wanted[name], atol=2e-3) for name in wanted)


def test_blocks_have_shares_of_their_own(make, tmp_path):
    paths = [make("a", seed=1), make("b", seed=2)]
    a, b = (load_file(path) for path in paths)
    # the tiny UNet has four blocks on the way in: base, 4, the middle, 4
    only_mid = merge(paths, Mix(0.5, (0, 0, 0, 0, 0, 1, 0, 0, 0, 0)), tmp_path / "m.safetensors")
    assert torch.allclose(only_mid[MID], b[MID], atol=2e-3)
    assert all(torch.equal(only_mid[name], a[name]) for name in (IN0, IN1, OUT, TEXT, VAE))
    first = merge(paths, Mix(0.5, (0, 1, 0, 0, 0, 0, 0, 0, 0, 0)), tmp_path / "f.safetensors")
    assert torch.allclose(first[TIME], b[TIME], atol=2e-3)
    assert torch.equal(first[IN1], a[IN1])
    last = merge(paths, Mix(0.5, (0, 0, 0, 0, 0, 0, 0, 0, 0, 1)), tmp_path / "l.safetensors")
    assert torch.allclose(last[OUT], b[OUT], atol=2e-3)
    base = merge(paths, Mix(0.5, (1, 0, 0, 0, 0, 0, 0, 0, 0, 0)), tmp_path / "b.safetensors")
    assert torch.allclose(base[TEXT], b[TEXT], atol=2e-3)
    assert torch.equal(base[MID], a[MID])


def test_too_few_block_shares_are_refused_with_the_right_number(make, tmp_path):
    with pytest.raises(BadRequest, match="3 block weights; this family has 10"):
        merge([make("a", seed=1)] * 2, Mix(0.5, (0, 1, 0)), tmp_path / "x.safetensors")


def test_models_of_other_dimensions_are_refused(make, tmp_path):
    with pytest.raises(BadRequest, match=r"is .* in wide.safetensors and .* in a.safetensors"):
        merge(
            [make("a", seed=1), make("wide", seed=1, unet=(64, 64))],
            Mix(0.5),
            tmp_path / "x.safetensors",
        )


def test_a_vae_is_baked_in(make, tmp_path):
    a, b = make("a", seed=1), make("b", seed=2)
    alone = {
        name.removeprefix("first_stage_model."): tensor
        for name, tensor in load_file(b).items()
        if name.startswith("first_stage_model.")
    }
    save_file(alone, tmp_path / "vae.safetensors")
    with (
        open_whole(read_header(a)) as whole,
        open_vae(read_header(tmp_path / "vae.safetensors")) as vae,
    ):
        assert isinstance(vae, Canonical)
        pieces = list(with_vae(pieces_of(whole), pieces_of(vae)))
        result = written(tmp_path / "baked.safetensors", pieces)
    before, other = load_file(a), load_file(b)
    assert torch.equal(result[VAE], other[VAE])
    assert torch.equal(result[IN0], before[IN0])
    assert result.keys() == before.keys()


def test_what_goes_along_is_converted_too(make, tmp_path):
    """A text encoder's spare parts, but not whole numbers, and not what no file can hold."""
    import numpy as np

    spare = "cond_stage_model.transformer.text_model.spare"
    extra = {spare: np.ones((2, 2), np.float32), f"{spare}.ids": np.ones(3, np.int64)}
    source = make("spare", seed=1, extra=extra)
    with open_whole(read_header(source)) as whole:
        pieces = [*pieces_of(whole, dtype="F16"), *carried(whole, dtype="F16")]
        copy = written(tmp_path / "half.safetensors", pieces)
    assert {name: copy[name].dtype for name in extra} == {
        spare: torch.float16,
        f"{spare}.ids": torch.int64,
    }
    header = read_header(source)
    odd = {f"{spare}.odd": replace(header.tensors[spare], dtype="QUANTIZED")}
    with open_whole(replace(header, tensors=header.tensors | odd)) as whole:
        assert f"{spare}.odd" not in {piece.name for piece in carried(whole)}


def test_a_second_text_encoder_is_written_once(make):
    """The one that is used may have other names, and the spare one those of the new file."""
    with open_whole(read_header(make("a", seed=1))) as whole:
        others = {place: replace(row, source=f"x.{row.source}") for place, row in whole.own.items()}
        turned = replace(whole, own=others)
        assert TEXT in turned.header.tensors and TEXT not in turned.sources
        assert TEXT not in {piece.name for piece in carried(turned)}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float64])
def test_other_floats_stay_as_they_are_and_merge_into_the_nearest(make, tmp_path, dtype):
    tensors = load_file(make("a", seed=1))
    save_file({name: t.to(dtype) for name, t in tensors.items()}, tmp_path / "odd.safetensors")
    with open_whole(read_header(tmp_path / "odd.safetensors")) as whole:
        copy = written(tmp_path / "copy.safetensors", list(pieces_of(whole)))
    assert {tensor.dtype for tensor in copy.values()} == {dtype}
    result = merge([tmp_path / "odd.safetensors"] * 2, Mix(0.5), tmp_path / "sum.safetensors")
    nearest = torch.float32 if dtype is torch.float64 else torch.float16
    assert {tensor.dtype for tensor in result.values()} == {nearest}
    assert torch.equal(result[OUT].double(), copy[OUT].double())


def test_numbers_that_do_not_fit_are_told_and_not_made_infinite(make, tmp_path):
    tensors = {name: tensor.float() for name, tensor in load_file(make("a", seed=1)).items()}
    tensors[OUT][0, 0, 0, 0] = 1e6
    save_file(tensors, tmp_path / "large.safetensors")
    with (
        open_whole(read_header(tmp_path / "large.safetensors")) as whole,
        pytest.raises(BadRequest, match=r"out\.2\.weight holds numbers that fp16"),
    ):
        written(tmp_path / "half.safetensors", list(pieces_of(whole, dtype="F16")))
    assert not (tmp_path / "half.safetensors").exists()


def test_the_lineage_of_a_baked_vae_names_it():
    said = lineage([("a", "1" * 64)], Mix(0.5), ("mse", "3" * 64))
    how = json.loads(said["sd_merge_recipe"])
    assert how["method"] == "as it is"
    assert how["vae"] == {"name": "mse", "sha256": "3" * 64}


def test_the_lineage_names_both_parents():
    said = lineage([("a", "1" * 64), ("b", "2" * 64)], Mix(0.25))
    assert said["modelspec.merged_from"] == "a, b"
    assert '"share": 0.25' in said["sd_merge_recipe"]
