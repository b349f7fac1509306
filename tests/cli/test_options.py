"""Flags for blocks, and how the flags of one request are put together."""

import pytest

from darkroom.cli.options import PICTURE_BLOCKS, REQUEST_FLAGS, request_of, slots
from darkroom.cli.spelled import detail, region
from darkroom.core.errors import BadRequest, UnknownName
from darkroom.core.processing import UpscaleRequest
from darkroom.core.request import ImageRequest
from darkroom.core.settings import Settings

SLOTS = {slot.name: slot for slot in slots(ImageRequest)}


def test_no_two_fields_have_one_flag():
    names = [slot.name for slot in slots(ImageRequest)]
    assert len(names) == len(set(names))
    assert not set(names) & set(Settings.model_fields)
    upscale = [slot.name for slot in slots(UpscaleRequest)]
    assert len(upscale) == len(set(upscale))
    assert not set(upscale) & set(Settings.model_fields)


@pytest.mark.parametrize(
    ("flag", "path"),
    [
        ("hires_scale", ("hires", "scale")),
        ("hires_prompt", ("hires", "prompt")),
        ("mask", ("mask", "image")),
        ("mask_blur", ("mask", "blur")),
        ("strength", ("init", "strength")),
        ("init", ("init", "image")),
        ("left", ("outpaint", "left")),
        ("loops", ("loopback", "loops")),
        ("refiner", ("refiner", "model")),
        ("restore_faces", ("restore", "model")),
        ("steps", ("steps",)),
        ("regions", ("regions",)),
    ],
)
def test_a_field_of_a_block_has_its_own_flag_or_one_with_the_block_in_front(flag, path):
    assert SLOTS[flag].path == path


def test_help_shows_what_is_used_most_first(call):
    lines = call("txt2img", "--help").stdout.splitlines()
    headings = [line for line in lines if line[:1].isalpha()]
    assert headings[1:4] == ["Options:", "Size:", "Sampling:"]
    assert headings[-4:] == ["Guidance:", "Picture files:", "Machine:", "Folders:"]
    assert headings.index("Hires:") < headings.index("Noise:")
    flags = [line.split()[0] for line in lines if line.startswith("  --")]
    assert flags.index("--hires-scale") < flags.index("--hires-steps")
    assert flags.index("--seed") < flags.index("--device")


def test_only_what_can_be_made_of_nothing_has_a_switch():
    assert {name for name, slot in SLOTS.items() if slot.switch} == {"hires", "loopback"}
    assert {slot.name for slot in slots(UpscaleRequest) if slot.switch} == {"paint"}


def test_every_block_has_flags():
    assert {slot.path[0] for slot in SLOTS.values()} == set(ImageRequest.model_fields)
    assert set(PICTURE_BLOCKS) < set(REQUEST_FLAGS)


def test_any_flag_of_a_block_brings_the_block():
    found = request_of({"hires_scale": "1.5", "mask_blur": "4", "init": "a.png", "steps": "9"})
    assert found == {
        "steps": "9",
        "init": {"image": "a.png"},
        "mask": {"blur": "4"},
        "hires": {"scale": "1.5"},
    }
    assert request_of({"hires": True}) == {"hires": {}}
    assert request_of({"hires": True, "hires_steps": "5"}) == {"hires": {"steps": "5"}}


def test_a_block_that_is_switched_off_is_none_and_not_filled():
    assert request_of({"hires": False}) == {"hires": None}
    with pytest.raises(BadRequest, match="--hires-scale and --no-hires contradict"):
        request_of({"hires": False, "hires_scale": "2"})


def test_what_was_not_given_is_not_there():
    assert request_of({"steps": None, "regions": (), "device": "cpu"}) == {}


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("face", {"detector": "face"}),
        ("size=512", {"size": "512"}),
        (
            'face,strength=0.5,prompt="a smiling face, 4k"',
            {"detector": "face", "strength": "0.5", "prompt": "a smiling face, 4k"},
        ),
        ("hand, prompt = (nice:1.2) hand", {"detector": "hand", "prompt": "(nice:1.2) hand"}),
        (r'"a,b.onnx",negative-prompt="say \"x\""',
         {"detector": "a,b.onnx", "negative_prompt": 'say "x"'}),
    ],
)  # fmt: skip
def test_details_are_spelled_in_one_word(text, fields):
    assert detail(text) == fields
    ImageRequest.parse({"detail": [fields]})


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("0,0,0.5,1: a cat", {"box": ["0", "0", "0.5", "1"], "prompt": "a cat"}),
        ("mask.png: a (cat:1.2)", {"mask": "mask.png", "prompt": "a (cat:1.2)"}),
        ("mask.png,weight=1.2: cat", {"mask": "mask.png", "weight": "1.2", "prompt": "cat"}),
        (r"C:\m.png, end=0.5:cat", {"mask": r"C:\m.png", "end": "0.5", "prompt": "cat"}),
        ('"a,b:c.png": cat', {"mask": "a,b:c.png", "prompt": "cat"}),
    ],
)
def test_regions_are_spelled_in_one_word(text, fields):
    assert region(text) == fields
    ImageRequest.parse({"regions": [fields]})


@pytest.mark.parametrize(
    ("spelled", "text", "said"),
    [
        (detail, "face,strengthy=1", "unknown field of --detail 'strengthy'"),
        (detail, "face,hand", "cannot be read"),
        (detail, "", "cannot be read"),
        (detail, '"face"x', "cannot be read"),
        (detail, "face,size=64,size=72", "says size twice"),
        (region, "mask.png", "cannot be read"),
        (region, "mask.png:", "cannot be read"),
        (region, "0,0,1: a cat", "cannot be read"),
        (region, "0,0,1,1,weighty=2: a cat", "unknown field of --region 'weighty'"),
    ],
)
def test_what_is_misspelt_is_refused_with_an_example(spelled, text, said):
    with pytest.raises(BadRequest, match=said) as caught:
        spelled(text)
    assert caught.value.hint or not isinstance(caught.value, UnknownName)
