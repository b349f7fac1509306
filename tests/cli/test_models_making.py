"""convert, prune and merge, as a user types them."""

import json
import os

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from darkroom.weights.layouts.clip_text import clip_text
from darkroom.weights.layouts.ldm_vae import vae as ldm_vae
from darkroom.weights.topology import TextDims, VaeDims
from tiny import tiny_checkpoint, tiny_layout


@pytest.fixture
def others(tmp_path, checkpoint, monkeypatch):
    """A folder of this test's own, beside the one that all tests share."""
    folder = tmp_path / "others"
    folder.mkdir()
    monkeypatch.setenv(
        "DARKROOM_MODELS_DIRS", os.pathsep.join([str(checkpoint.parent), str(folder)])
    )
    return folder


class Canary:
    def __reduce__(self):
        return os.system, ("touch canary",)


def test_a_pickled_checkpoint_becomes_a_safetensors_file_that_makes_the_same_picture(
    call, checkpoint, tmp_path
):
    pickled = tmp_path / "old.ckpt"
    torch.save({"state_dict": load_file(checkpoint), "global_step": 5}, pickled)
    done = call("models", "convert", pickled)
    assert done.exit_code == 0, done.output
    assert "old.safetensors" in done.stdout
    pictures = []
    for model in (pickled, tmp_path / "old.safetensors"):
        word = (
            "txt2img",
            "a cat",
            "--model",
            model,
            "--steps",
            2,
            "--seed",
            3,
            "--width",
            64,
            "--height",
            64,
            "--json",
        )
        made = call(*word)
        assert made.exit_code == 0, made.output
        with Image.open(json.loads(made.stdout)["images"][0]["path"]) as picture:
            pictures.append(picture.tobytes())
    assert pictures[0] == pictures[1]
    a, b = load_file(checkpoint), load_file(tmp_path / "old.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_pickle_that_holds_code_is_not_converted(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"w": torch.ones(2)}, "x": Canary()}, tmp_path / "bad.ckpt")
    done = call("models", "convert", tmp_path / "bad.ckpt")
    assert done.exit_code == 2
    assert "system" in done.stderr and "code" in done.stderr
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "bad.safetensors").exists()


def test_a_pickle_of_a_family_that_does_not_run_becomes_a_safetensors_file_too(call, tmp_path):
    made = {"double_blocks.0.img_attn.norm.key_norm.scale": torch.arange(3.0)}
    torch.save(made, tmp_path / "flux.ckpt")
    done = call("models", "convert", tmp_path / "flux.ckpt", "--json")
    assert done.exit_code == 0, done.output
    (name,) = made
    assert torch.equal(load_file(tmp_path / "flux.safetensors")[name], made[name])


def test_what_only_the_name_told_is_kept_as_the_title(call, tmp_path):
    tiny_checkpoint(tmp_path / "dream_lcm.safetensors", metadata={"sshs_model_hash": "ab" * 32})
    done = call("models", "convert", tmp_path / "dream_lcm.safetensors", "-o", tmp_path / "x.sft")
    assert done.exit_code == 0, done.output
    shown = json.loads(call("models", "show", tmp_path / "x.sft", "--json").stdout)
    assert (shown["title"], shown["distilled"], shown["distilled_by"]) == (
        "dream_lcm", "LCM", "metadata",
    )  # fmt: skip
    assert "sshs_model_hash" not in shown["metadata"]  # it is of other bytes


def test_what_is_left_out_is_counted_by_name(call, tmp_path):
    """A folder of SD2 has query, key and value apart; all three are in the new file."""
    unet, text = tiny_layout(linear=True)["unet"], "cond_stage_model.model."
    texts = TextDims(width=64, layers=2, intermediate=256, positions=77, vocab=49408)
    vae = VaeDims(channels=(16, 32, 32, 32), layers=1, latent_channels=4)
    rows = {
        "unet/": unet, "text_encoder/": clip_text(texts), "vae/": ldm_vae(vae)
    }  # fmt: skip
    for folder, some in rows.items():
        tensors = {row.target: torch.zeros(row.shape).half() for row in some}
        stem = "model" if folder == "text_encoder/" else "diffusion_pytorch_model"
        (tmp_path / "sd2" / folder).mkdir(parents=True)
        (tmp_path / "sd2" / folder / "config.json").write_text('{"sample_size": 96}')
        save_file(tensors | {"logit_scale": torch.ones(1)} if stem == "model" else tensors,
                  tmp_path / "sd2" / folder / f"{stem}.safetensors")  # fmt: skip
    done = call("models", "convert", tmp_path / "sd2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["left_out"] == 1  # the logit scale
    assert any(name.startswith(text) for name in load_file(tmp_path / "sd2.safetensors"))
    shown = json.loads(call("models", "show", tmp_path / "sd2.safetensors", "--json").stdout)
    assert shown["native_size"] == 768


def test_a_file_that_is_there_is_never_written_over(call, checkpoint):
    before = checkpoint.read_bytes()
    done = call("models", "convert", checkpoint)
    assert done.exit_code == 2
    assert "is there already" in done.stderr
    assert checkpoint.read_bytes() == before


def test_prune_halves_the_digits_by_itself(call, checkpoint, tmp_path):
    wide = tmp_path / "wide.safetensors"
    assert call("models", "convert", checkpoint, "--dtype", "fp32", "-o", wide).exit_code == 0
    done = call("models", "prune", wide, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["path"].endswith("wide-pruned.safetensors")
    assert told["bytes"] < 0.6 * wide.stat().st_size


def test_only_checkpoints_are_pruned(call, tmp_path):
    save_file({"emb_params": torch.ones(2, 64)}, tmp_path / "word.safetensors")
    done = call("models", "prune", tmp_path / "word.safetensors")
    assert done.exit_code == 2
    assert "only checkpoints are pruned" in done.stderr
    assert not (tmp_path / "word-pruned.safetensors").exists()


def test_merging_models_that_predict_different_things_is_noted(call, others, tmp_path):
    predicts_v = {"modelspec.prediction_type": "v"}
    tiny_checkpoint(others / "v.safetensors", seed=9, metadata=predicts_v)
    done = call("models", "merge", "tiny", "v", "-o", tmp_path / "m.safetensors")
    assert done.exit_code == 0, done.output
    assert "v.safetensors predicts v" in done.stderr
    again = call("models", "merge", "tiny", "v", "-o", tmp_path / "n.safetensors", "--json")
    told = json.loads(again.stdout)  # one JSON value, with the note in it
    assert "predicts v" in told["warnings"][0] and told["path"].endswith("n.safetensors")


def test_merged_models_say_what_they_are_made_of(call, others, tmp_path):
    tiny_checkpoint(others / "other.safetensors", seed=9)
    done = call(
        "models", "merge", "tiny", "other", "--share", "0.3", "-o", tmp_path / "m.safetensors"
    )
    assert done.exit_code == 0, done.output
    shown = call("models", "show", tmp_path / "m.safetensors")
    assert "tiny, other" in shown.stdout


def test_an_extracted_lora_makes_the_base_paint_like_the_tuned_model(
    call, checkpoint, others, tmp_path
):
    tensors = load_file(checkpoint)
    random = torch.Generator().manual_seed(5)
    for name, tensor in tensors.items():
        if name.endswith(("attn1.to_q.weight", "attn2.to_v.weight")):
            wide, high = (torch.randn(side, 2, generator=random) for side in tensor.shape)
            tensors[name] = (tensor + 0.3 * wide @ high.T).half()
    save_file(tensors, tmp_path / "tuned.safetensors", metadata={"modelspec.resolution": "64x64"})
    word = ("models", "extract-lora", tmp_path / "tuned.safetensors", "tiny", "--rank", 4)
    done = call(*word, "-o", others / "learned.safetensors", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["captured"] > 0.99
    pictures = []
    for model, prompt in (
        (tmp_path / "tuned.safetensors", "a cat"),
        ("tiny", "a cat <lora:learned:1>"),
        ("tiny", "a cat"),
    ):
        made = call("txt2img", prompt, "--model", model, "--steps", 2, "--seed", 3, "--json")
        assert made.exit_code == 0, made.output
        with Image.open(json.loads(made.stdout)["images"][0]["path"]) as picture:
            pictures.append(torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).int())
    tuned, worn, plain = pictures
    assert (tuned - worn).abs().max() <= 3 < (tuned - plain).abs().max()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tiny"], "two or three checkpoints"),
        (["tiny", "nothing"], "unknown model 'nothing'"),
        (["tiny", "tiny", "--share", "7"], "--share must lie between"),
        (["tiny", "tiny", "--share", "nan"], "--share must lie between"),
        (["tiny", "tiny", "--blocks", "a,b"], "must be numbers"),
        (["tiny", "tiny", "--blocks", "nan"], "must lie between"),
        (["tiny", "tiny", "--blocks", "1,2"], "2 block weights"),
        (["tiny", "tiny", "-o", "there.ckpt"], "no name for a safetensors file"),
    ],
)
def test_what_cannot_be_merged_is_told_in_a_sentence(call, words, told, tmp_path):
    done = call(
        "models", "merge", *words, *([] if "-o" in words else ["-o", tmp_path / "x.safetensors"])
    )
    assert done.exit_code == 2
    assert told in done.stderr
    assert not (tmp_path / "x.safetensors").exists()
