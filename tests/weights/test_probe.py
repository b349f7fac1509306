"""What a library shows of a file, from its header alone."""

import json
from pathlib import Path

import pytest

from checkpoints import UNETS, called, ema_names, real_folder, real_header, real_shapes
from darkroom.core.model import Arch, Kind, Prediction, Variant
from darkroom.weights.header import Header
from darkroom.weights.probe import precision, probe
from tiny import made_header

LORA = {
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 768)
}
LORA_MARK = {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (1280, 4)}


@pytest.mark.parametrize("arch", UNETS)
def test_a_whole_checkpoint(arch):
    found = probe(real_header(arch))
    assert (found.kind, found.arch, found.runs) == (Kind.CHECKPOINT, arch, True)
    assert found.components == ("unet", "vae", "text", "text_2")[: 4 if arch is Arch.SDXL else 3]
    assert (found.precision, found.form, found.problems) == ("fp16", "safetensors", ())
    assert (found.ema, found.distilled, found.triggers, found.recommended) == (False, "", (), {})


def test_a_variant_and_how_it_was_trained():
    header = real_header(Arch.SDXL, in_channels=9, metadata={"modelspec.prediction_type": "v"})
    found = probe(header)
    assert (found.variant, found.prediction) == (Variant.INPAINT, Prediction.V)
    assert found.label == "an SDXL inpaint checkpoint" and found.native_size == 1024


def mixed(*groups: tuple[str, int]) -> Header:
    tensors = {}
    for dtype, count in groups:
        tensors |= made_header({f"{dtype}.{n}": (10,) for n in range(count)}, dtype=dtype).tensors
    return Header(Path("m"), tensors, {}, 0)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("F16", "fp16"), ("BF16", "bf16"), ("F32", "fp32"), ("F64", "fp64"), ("F8_E4M3", "fp8"),
     ("F8_E5M2", "fp8"), ("I8", "int8"), ("BOOL", "")],
)  # fmt: skip
def test_precisions(dtype, name):
    assert precision(mixed((dtype, 3))) == name


def test_mixed_precision():
    assert precision(mixed(("F16", 50), ("BF16", 50))) == "mixed"
    assert precision(mixed(("F16", 500), ("BF16", 1))) == "fp16"
    assert precision(mixed(("F16", 5), ("I64", 5))) == "fp16"  # position_ids do not count


def test_averages():
    shapes = real_shapes(Arch.SD1)
    names = ema_names(Arch.SD1)
    assert probe(made_header(shapes | {ema: shapes[n] for n, ema in names.items()})).ema
    assert probe(made_header({names.get(n, n): s for n, s in shapes.items()})).ema
    assert not probe(made_header(shapes | {"model_ema.decay": ()})).ema


def test_what_does_not_run_says_why():
    shapes = real_shapes(Arch.SDXL)
    bare = {n: s for n, s in shapes.items() if not n.startswith("conditioner")}
    found = probe(made_header(bare))
    assert (found.runs, found.components) == (False, ("unet", "vae"))
    assert found.problems == (
        "It is an SDXL checkpoint without a text encoder. Get the whole checkpoint: the UNet, the"
        " text encoders and the VAE in one file or folder.",
    )
    found = probe(made_header({"double_blocks.0.img_attn.norm.key_norm.scale": (1,)}))
    assert found.problems == (
        "This is a Flux transformer without VAE. This version runs SD1, SD2 and SDXL.",
    )


def test_missing_tensors_are_counted():
    shapes = real_shapes(Arch.SD1)
    for name in list(shapes)[-12:]:
        del shapes[name]
    (problem,) = probe(made_header(shapes)).problems
    assert problem.startswith("It does not fit its own networks: 12 of 1130 tensors (first:")
    assert "are missing" in problem and "made.safetensors" not in problem


def test_without_a_vae_it_runs_with_another():
    shapes = {n: s for n, s in real_shapes(Arch.SD1).items() if "first_stage" not in n}
    found = probe(made_header(shapes))
    assert found.runs and found.components == ("unet", "text")
    assert found.problems == ("It has no VAE: give one with --vae.",)


def test_a_vae_runs_and_riders_wait_for_a_checkpoint():
    shapes = {n: s for n, s in real_shapes(Arch.SD1).items() if n.startswith("first_stage_model.")}
    found = probe(made_header(shapes))
    assert (found.kind, found.runs, found.problems) == (Kind.VAE, True, ())
    found = probe(made_header(LORA))
    assert (found.kind, found.runs, found.problems) == (Kind.LORA, False, ())


def test_a_lora_for_what_we_do_not_run_says_so():
    flux = {"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": (4, 3072)}
    assert probe(made_header(flux)).problems == (
        "This is a LoRA for Flux. This version runs SD1, SD2 and SDXL.",
    )


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "kohya"),
        ("lora_unet_input_blocks_4_1_proj_in.lora_down.weight", "kohya, SGM names"),
        ("unet.mid_block.attentions.0.proj_in.lora_A.weight", "PEFT"),
        ("unet.mid_block.attentions.0.proj_in.lora.down.weight", "diffusers"),
        ("mid_block.attentions.0.x.processor.to_q_lora.down.weight", "diffusers, old"),
        ("unet:0:up", "cloneofsimo"),
        ("lycoris_mid_block_attentions_0_proj_in.lora_down.weight", "LyCORIS"),
    ],
)
def test_whose_names_a_lora_has(name, dialect):
    assert probe(made_header({name: (4, 1280)})).dialect == dialect


@pytest.mark.parametrize(
    ("names", "rank"),
    [
        ({"a.lora_down.weight": (16, 320), "a.lora_up.weight": (320, 16)}, "16"),
        ({"a.lora_down.weight": (4, 320), "b.lora_down.weight": (64, 320, 3, 3)}, "4 to 64"),
        ({"lora_unet_a.hada_w1_b": (8, 320), "lora_unet_a.hada_w2_b": (8, 320)}, "8"),
        ({"lora_unet_a.diff": (320, 320)}, ""),
    ],
)
def test_the_rank_of_a_lora(names, rank):
    assert probe(made_header(LORA_MARK | names)).rank == rank
    assert probe(real_header(Arch.SD1)).rank == ""


def test_what_a_file_says_of_itself():
    said = {
        "modelspec.title": "Dogs", "modelspec.author": "me", "modelspec.license": "CC0",
        "modelspec.description": "of dogs", "ss_output_name": "dogs_v1",
        "ss_sd_model_name": "sd_xl_base_1.0.safetensors", "modelspec.trigger_phrase": "sks dog, fur",
    }  # fmt: skip
    found = probe(made_header(LORA, said))
    assert (found.title, found.author, found.licence) == ("Dogs", "me", "CC0")
    assert (found.description, found.base) == ("of dogs", "sd_xl_base_1.0.safetensors")
    assert found.triggers == ("sks dog", "fur")
    unsaid = dict.fromkeys(said, "None") | {"ss_output_name": "dogs_v1"}
    found = probe(made_header(LORA, unsaid))
    assert (found.title, found.author, found.base, found.triggers) == ("dogs_v1", "", "SD1", ())


def test_few_step_models_recommend_few_steps():
    found = probe(real_header(Arch.SDXL, name="dreamshaperXL_v21TurboDPMSDE.safetensors"))
    assert found.distilled == "Turbo" and found.recommended == {"steps": 4, "cfg_scale": 1.0}
    assert found.distilled_by == "name"
    found = probe(real_header(Arch.SD1, name="lightning.safetensors"))
    assert (found.distilled, found.recommended) == ("", {})
    found = probe(real_header(Arch.SDXL, name="sdxl_lightning_8step.safetensors"))
    assert found.distilled == "Lightning" and found.recommended["steps"] == 8
    found = probe(made_header(LORA, {"modelspec.title": "LCM LoRA"}))
    assert found.distilled == "LCM" and found.recommended == {}  # the checkpoint decides


@pytest.mark.parametrize(
    "bad", ["", "[", "{}", '{"a": 1}', "null", "[" * 100_000, '{"_class_name": 5}']
)
def test_hostile_metadata_is_passed_over(bad):
    keys = ("modelspec.resolution", "ss_tag_frequency", "ss_dataset_dirs", "trainedWords",
            "model_index.json", "config.json", "unet/config.json", "vae/config.json",
            "scheduler/scheduler_config.json", "modelspec.prediction_type")  # fmt: skip
    metadata = dict.fromkeys(keys, bad)
    assert probe(made_header(real_folder(Arch.SD2), metadata)).runs
    assert probe(made_header(LORA, metadata)).triggers == ()
    assert probe(made_header({"x": (1,)}, metadata)).kind is Kind.UNKNOWN


def test_a_folder():
    index = {"model_index.json": json.dumps({"_class_name": "StableDiffusionXLPipeline"})}
    found = probe(made_header(real_folder(Arch.SDXL), index))
    assert (found.arch, found.runs) == (Arch.SDXL, True)


def test_names_of_files_do_not_decide():
    found = probe(called(made_header(LORA), "sd15_checkpoint.ckpt"))
    assert found.kind is Kind.LORA


def test_probing_takes_milliseconds():
    """Measured: 4 ms of processor time for SDXL, 2 ms for a LoRA; bounds for a busy machine."""
    import time

    lora = {
        name.replace("unet/", "lora_unet_").replace(".", "_") + f".lora_{side}.weight": (4, 4)
        for name in real_folder(Arch.SDXL)
        for side in ("up", "down")
        if name.startswith("unet/") and name.endswith(".weight")
    }
    for header, most in ((real_header(Arch.SDXL), 0.03), (made_header(lora), 0.015)):
        probe(header)
        start = time.process_time()
        for _ in range(10):
            probe(header)
        assert (time.process_time() - start) / 10 < most
