"""What files say of themselves: words, sizes, predictions, triggers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import called
from darkroom.core.model import Arch, Prediction
from darkroom.weights import claims
from tiny import made_header


def header(metadata=None, name="made.safetensors"):
    return called(made_header({"x": (1,)}, metadata), str(name))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sd_xl_turbo_1.0-fp16", "sd xl turbo 1 0 fp 16"),
        ("dreamshaperXL_v21TurboDPMSDE", "dreamshaper xl v 21 turbo dpmsde"),
        ("SDXL-Lightning 4Step", "sdxl lightning 4 step"),
        ("", ""),
        ("模型", ""),
    ],
)
def test_words(text, words):
    assert claims.words_of(text) == words.split()


@pytest.mark.parametrize(
    ("name", "kind", "steps"),
    [
        ("sd_xl_turbo_1.0.safetensors", "Turbo", 4),
        ("sdxl_lightning_2step.safetensors", "Lightning", 2),
        ("RealVisXL_V4.0_Lightning.safetensors", "Lightning", 4),
        ("Hyper-SDXL-8steps.safetensors", "Hyper", 8),
        ("LCM_Dreamshaper_v7.safetensors", "LCM", 8),
        ("dmd2_sdxl_4step.safetensors", "DMD", 4),
        ("flux1-schnell.safetensors", "Schnell", 4),
        ("hyperrealism.safetensors", "", None),
        ("HyperRealistic_v2.safetensors", "", None),
        ("epicrealism_hyper.safetensors", "Hyper", 8),
        ("Hyper-SD15-1step.safetensors", "Hyper", 1),
        ("lightningBolts.safetensors", "Lightning", 4),
        ("turbocharged.safetensors", "", None),
        ("x_turbo_999steps.safetensors", "Turbo", 4),
    ],
)
def test_few_step_training_is_told_by_whole_words(name, kind, steps):
    assert claims.distilled(header(name=name)) == kind
    assert claims.recommended(header(name=name)).get("steps") == steps


@pytest.mark.parametrize(
    ("name", "arch", "kind"),
    [
        ("lightning", Arch.SD1, ""),
        ("dreamTurbo", Arch.SD1, ""),
        ("lightning", Arch.SDXL, "Lightning"),
        ("turbo_lcm", Arch.SD1, "LCM"),
        ("Hyper-SD15-8steps", Arch.SD1, "Hyper"),
        ("sd_turbo", Arch.SD2, "Turbo"),
        ("lcm", Arch.SDXL_REFINER, ""),
        ("sd3.5_large_turbo", Arch.SD3, "Turbo"),
    ],
)
def test_a_family_without_few_step_models_has_none(name, arch, kind):
    made = header(name=f"{name}.safetensors")
    assert claims.distilled(made, arch) == kind
    assert bool(claims.recommended(made, arch)) is bool(kind)
    assert claims.distilled_by(made, arch) == ("name" if kind else "")


def test_what_tells_of_few_steps():
    told = header({"modelspec.title": "x lightning"}, name="lightning.safetensors")
    assert claims.distilled_by(told, Arch.SDXL) == "metadata"
    assert claims.distilled_by(told, Arch.SD1) == ""


def test_the_first_lcms_are_told_by_a_tensor():
    made = made_header({"unet/time_embedding.cond_proj.weight": (320, 256)})
    assert claims.distilled(made) == "LCM"
    assert claims.distilled(made, Arch.SD1) == "LCM"
    assert claims.distilled_by(made, Arch.SD1) == "tensors"


@pytest.mark.parametrize(
    ("told", "tags"),
    [
        ('{"a": {"sks": 2, "hat": 5, "once": 1}, "b": {"sks": 9, " hat ": 1}}', ("sks", "hat")),
        ('{"a": {"x": "y"}, "b": 3}', ()),
        ("[", ()),
    ],
)
def test_the_most_frequent_tags(told, tags):
    assert claims.frequent_tags(header({"ss_tag_frequency": told})) == tags


def test_recommended_names_are_of_the_request():
    from darkroom.core.request import ImageRequest

    for fields in claims.RECOMMENDED.values():
        ImageRequest.parse({"model": "m", "prompt": "", **fields})


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, None),
        ({"modelspec.prediction_type": "v"}, Prediction.V),
        ({"modelspec.prediction_type": "V_Prediction"}, Prediction.V),
        ({"modelspec.prediction_type": "epsilon"}, Prediction.EPS),
        ({"modelspec.prediction_type": "sample"}, None),
        ({"scheduler/scheduler_config.json": '{"prediction_type": "v_prediction"}'}, Prediction.V),
        ({"scheduler/scheduler_config.json": '{"prediction_type": 7}'}, None),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, Prediction.V),
        ({"ss_base_model_version": "sd_v2_v"}, Prediction.V),
        ({"ss_v_parameterization": "True"}, Prediction.V),
        ({"modelspec.prediction_type": "epsilon", "ss_v_parameterization": "True"}, Prediction.EPS),
    ],
)
def test_prediction(metadata, says):
    assert claims.prediction(header(metadata)) is says


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("noobaiXLNAIXL_vPred10Version.safetensors", Prediction.V),
        ("model-v-pred.safetensors", Prediction.V),
        ("cool_v_prediction_fp16.safetensors", Prediction.V),
        ("vprediction.safetensors", Prediction.V),
        ("predator_v2.safetensors", None),
        ("vpredator.safetensors", None),
    ],
)
def test_a_name_is_the_last_word_on_prediction(name, says):
    assert claims.prediction(header(name=name)) is says
    sure = {"modelspec.prediction_type": "epsilon"}
    assert claims.prediction(header(sure, name=name)) is Prediction.EPS


@given(st.text(max_size=30))
def test_no_text_is_a_prediction_by_accident(text):
    says = claims.prediction(header({"modelspec.prediction_type": text}))
    assert says is None or text.strip().casefold() in (*claims.SAID_V, *claims.SAID_EPS)


@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9]{1,6}x[0-9]{1,6}", fullmatch=True)))
def test_any_size_that_is_read_can_be_made(text):
    size = claims.native_size(header({"modelspec.resolution": text}))
    assert size is None or (64 <= size <= 8192 and size % 8 == 0)


@given(st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.booleans()))
def test_any_sample_size(value):
    size = claims.native_size(header({"unet/config.json": json.dumps({"sample_size": value})}))
    assert size is None or (64 <= size <= 8192 and size % 8 == 0)


def test_stabilitys_turbo_is_small_and_other_turbos_are_not():
    assert claims.native_size(header(name="sd_xl_turbo_1.0_fp16.safetensors")) == 512
    assert claims.native_size(header(name="sdxl-turbo")) == 512
    assert claims.native_size(header(name="dreamshaperXL_turbo.safetensors")) is None


def test_a_yaml_beside_the_file(tmp_path):
    path = tmp_path / "model.ckpt"
    for text, says in (
        ('  params:\n    parameterization: "v"\n', Prediction.V),
        ("parameterization: eps", Prediction.EPS),
        ("# parameterization: v", None),
        ("my_parameterization: v", None),
        ("\0\xff", None),
    ):
        path.with_suffix(".yaml").write_text(text)
        assert claims.prediction(header(name=path)) is says
    assert not claims.zero_snr(header(name=path))
    path.with_suffix(".yaml").write_text("model:\n  zero_snr: True\n")
    assert claims.zero_snr(header(name=path))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, ()),
        ({"modelspec.trigger_phrase": " sks dog ,, sks  dog,red "}, ("sks dog", "red")),
        ({"trainedWords": '["a b", 5, "c"]'}, ("a b", "c")),
        ({"trainedWords": '"a"'}, ()),
        ({"ss_dataset_dirs": '{"10_sks dog": {"n_repeats": 10}, "5_img": {}, "reg": {}}'}, ("sks dog",)),
        ({"ss_tag_frequency": '{"x": {"sks": 20, "1girl": 19, "smile": 4}}'}, ("sks", "1girl")),
        ({"ss_tag_frequency": '{"x": {"one caption": 1, "another": 1}}'}, ()),
        ({"ss_tag_frequency": '{"x": {"a": "b"}, "y": 3}'}, ()),
        ({"modelspec.trigger_phrase": "None", "ss_dataset_dirs": '{"1_x": {}}'}, ("x",)),
    ],
)  # fmt: skip
def test_triggers(metadata, words):
    assert claims.triggers(header(metadata)) == words


def test_triggers_are_few_and_short():
    many = ",".join(f"word{n}" for n in range(100)) + "," + "x" * 1000
    found = claims.triggers(header({"modelspec.trigger_phrase": many}))
    assert len(found) == claims.MOST_TRIGGERS and max(map(len, found)) <= 100
