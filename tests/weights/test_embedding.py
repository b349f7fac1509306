"""Embeddings: every form that users have, and words for what is none."""

import json
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from darkroom.core.errors import BadFile
from darkroom.core.model import Arch
from darkroom.weights.embedding import aligned, read_embedding, short_checksum
from darkroom.weights.embedding_facts import embedding_facts
from darkroom.weights.embedding_image import own_words
from darkroom.weights.header import read_header

ROWS = torch.arange(24, dtype=torch.float32).reshape(3, 8)
WIDE = torch.arange(36, dtype=torch.float32).reshape(3, 12) / 7


@pytest.fixture
def file(tmp_path):
    def make(metadata=None, **tensors):
        path = tmp_path / "easy.safetensors"
        save_file({name: one.clone() for name, one in tensors.items()}, path, metadata)
        return path

    return make


@pytest.fixture
def pickle(tmp_path):
    def make(content, name="easy.pt", *, old=False):
        path = tmp_path / name
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        return path

    return make


def vectors(path, *widths, word=""):
    return read_embedding(path, widths, word)


# ---- one text encoder -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["emb_params", "<cat-toy>", "sks", "clip_l", "string_to_param.*"])
def test_the_vectors_are_found_under_any_name(file, name):
    (found,) = vectors(file(**{name: ROWS}), 8)
    assert torch.equal(found, ROWS)


def test_one_vector_may_be_flat_and_in_half_precision(file):
    (found,) = vectors(file(emb_params=ROWS[1].half()), 8)
    assert torch.equal(found, ROWS[1:2]) and found.dtype == torch.float32


def test_of_a_file_for_two_encoders_the_fitting_tensor_is_taken(file):
    path = file(clip_l=ROWS, clip_g=WIDE)
    assert torch.equal(vectors(path, 8)[0], ROWS)
    assert torch.equal(vectors(path, 12)[0], WIDE)


def test_of_equally_wide_encoders_the_first_is_taken(file):
    (found,) = vectors(file(clip_g=ROWS + 1, clip_l=ROWS), 8)
    assert len(found) == 3


def test_what_trainers_leave_beside_the_vectors_is_no_part_of_them(file):
    beside = {"emb_params_out": ROWS + 1, "string_to_token.*": torch.tensor(265)}
    assert torch.equal(vectors(file(emb_params=ROWS, **beside), 8)[0], ROWS)


# ---- pickles ----------------------------------------------------------------------------------------

A1111 = {
    "string_to_token": {"*": 265},
    "string_to_param": {"*": ROWS},
    "name": "easy",
    "step": 1999,
    "sd_checkpoint": "a9263745",
    "sd_checkpoint_name": "v1-5",
}
FORMS = {
    "A1111": A1111,
    "A1111 with gradients": A1111 | {"string_to_param": {"*": ROWS.clone().requires_grad_()}},
    "the authors'": {
        "string_to_token": {"*": torch.tensor(265)},
        "string_to_param": nn.ParameterDict({"*": nn.Parameter(ROWS)}),
    },
    "a parameter": {"string_to_param": OrderedDict({"*": nn.Parameter(ROWS)})},
    "only parameters": {"string_to_param": {"*": ROWS}},
    "diffusers": {"<cat-toy>": ROWS},
    "kohya": {"emb_params": ROWS},
    "a list of dicts": [{"emb_params": ROWS}],
    "half": {"emb_params": ROWS.half()},
    "a view": {"emb_params": torch.cat([ROWS, ROWS])[1:].as_strided((3, 8), (8, 1), 24)},
    "transposed": {"emb_params": ROWS.T.contiguous().T},
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("form", FORMS)
def test_pickles_of_every_program_give_the_same_vectors(pickle, form, old):
    (found,) = vectors(pickle(FORMS[form], old=old), 8)
    assert torch.equal(found, ROWS)


def test_a_pickle_is_read_by_its_content_not_its_extension(pickle):
    assert torch.equal(vectors(pickle(A1111, "easy.safetensors"), 8)[0], ROWS)


def test_a_pair_of_a_pickle(pickle):
    low, high = vectors(pickle({"clip_l": ROWS, "clip_g": WIDE}), 8, 12)
    assert torch.equal(low, ROWS) and torch.equal(high, WIDE)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return print, ("run",)

    path = tmp_path / "evil.pt"
    torch.save(A1111 | {"name": Runs()}, path)
    with pytest.raises(BadFile, match="code"):
        vectors(path, 8)


# ---- two text encoders ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"), ("<a>", "<b>")]
)
def test_a_model_of_two_encoders_gets_both(file, names):
    low, high = vectors(file(**dict(zip(names, (ROWS, WIDE), strict=True))), 8, 12)
    assert torch.equal(low, ROWS) and torch.equal(high, WIDE)


def test_encoders_of_one_width_are_told_apart_by_their_names(file):
    low, high = vectors(file(clip_g=ROWS + 1, clip_l=ROWS), 8, 8)
    assert torch.equal(low, ROWS) and torch.equal(high, ROWS + 1)


@pytest.mark.parametrize("name, other", [("clip_l", 1), ("clip_g", 0), ("<a>", 0)])
def test_an_encoder_that_is_left_out_gets_zeros(file, name, other):
    found = vectors(file(**{name: (ROWS, WIDE)[1 - other]}), 8, 12)
    assert not found[other].any()
    assert torch.equal(found[1 - other], (ROWS, WIDE)[1 - other])
    assert len(found[other]) == 3


def test_the_shorter_of_a_pair_is_filled_up(file):
    low, high = vectors(file(clip_l=ROWS[:1], clip_g=WIDE), 8, 12)
    assert torch.equal(low[:1], ROWS[:1]) and not low[1:].any() and len(high) == 3


def test_sd3s_third_encoder_is_left_alone(file):
    path = file(clip_l=ROWS, clip_g=WIDE, t5xxl=torch.ones(3, 4096))
    assert [one.shape for one in vectors(path, 8, 12)] == [(3, 8), (3, 12)]


# ---- several tokens ---------------------------------------------------------------------------------


def test_of_several_tokens_the_prompts_is_taken_and_else_all_in_order(file, pickle):
    path = file(**{"<a>": ROWS[0], "<b>": ROWS[1:]})
    assert torch.equal(vectors(path, 8, word="<b>")[0], ROWS[1:])
    assert torch.equal(vectors(path, 8, word="easy")[0].sort(0).values, ROWS)
    listed = pickle([{"<a>": ROWS[:1]}, {"<b>": ROWS[1:]}])
    assert torch.equal(vectors(listed, 8)[0], ROWS)
    assert torch.equal(vectors(listed, 8, word="<a>")[0], ROWS[:1])


def test_a_file_brings_its_tokens_as_words_but_no_word_of_the_language(file, pickle):
    assert sorted(own_words(file(**{"<a>": ROWS, "style": ROWS}))) == ["<a>"]
    assert own_words(pickle(A1111)) == ()
    assert own_words(pickle({}, "empty.pt")) == ()


# ---- what is refused --------------------------------------------------------------------------------

FAMILIES = [
    ("SD1", {"emb_params": 768}, (1024,)),
    ("SD1", {"emb_params": 768}, (768, 1280)),
    ("SD2", {"emb_params": 1024}, (768,)),
    ("SDXL", {"clip_g": 1280}, (768,)),
    ("SDXL", {"clip_l": 768, "clip_g": 1280}, (1024,)),
    ("SD3", {"t5xxl": 4096}, (768,)),
    ("models of width 7", {"emb_params": 7}, (768, 1280)),
    ("models of width 7 and 9", {"<a>": 7, "<b>": 9}, (768,)),
]


@pytest.mark.parametrize("family, sizes, widths", FAMILIES)
def test_an_embedding_of_another_family_is_named(file, family, sizes, widths):
    path = file(**{name: torch.zeros(2, width) for name, width in sizes.items()})
    with pytest.raises(BadFile, match=f"is for {family}, not for this model"):
        read_embedding(path, widths)


def test_a_small_model_of_the_same_make_is_told_from_another_family(file):
    path = file(emb_params=torch.zeros(2, 768))
    with pytest.raises(BadFile, match="is for full-size SD1, and this is a small model") as caught:
        read_embedding(path, (192,))
    assert "full-size SD1 checkpoint" in caught.value.hint


@pytest.mark.parametrize(
    "tensors",
    [
        {"lora_unet_a.lora_up.weight": torch.zeros(2, 8)},
        {"emb_params": torch.zeros(2, 8), "unet.conv_in.weight": torch.zeros(2, 8)},
        {"emb_params": torch.zeros(2, 2, 8)},
        {"emb_params": torch.zeros(2, 8, dtype=torch.int64)},
        {"emb_params": torch.zeros(0, 8)},
        {"model.diffusion_model.out.2.weight": torch.zeros(4, 8, 3, 3)},
    ],
    ids=["lora", "more", "cube", "integers", "nothing", "checkpoint"],
)
def test_what_is_no_embedding_is_refused(file, tensors):
    path = file(**tensors)
    assert embedding_facts(read_header(path)) is None
    with pytest.raises(BadFile, match="not an embedding"):
        vectors(path, 8)


def test_more_vectors_than_a_chunk_holds_are_refused_with_their_number(file):
    assert len(vectors(file(emb_params=torch.zeros(75, 8)), 8)[0]) == 75
    with pytest.raises(BadFile, match=r"76 vectors.*room for 75"):
        vectors(file(emb_params=torch.zeros(76, 8)), 8)
    with pytest.raises(BadFile, match="80 vectors"):
        vectors(file(**{"<a>": torch.zeros(40, 8), "<b>": torch.zeros(40, 8)}), 8)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(file, value):
    with pytest.raises(BadFile, match="numbers that are none"):
        vectors(file(emb_params=torch.full((2, 8), value)), 8)


def test_numbers_too_great_for_float32_are_none(file):
    with pytest.raises(BadFile, match="numbers that are none"):
        vectors(file(emb_params=torch.full((2, 8), 1e300, dtype=torch.float64)), 8)


# ---- vectors that come from elsewhere ---------------------------------------------------------------


def test_given_vectors_are_checked_as_a_files_are():
    low, high = aligned([ROWS, None], (8, 12), "bundled")
    assert torch.equal(low, ROWS) and high.shape == (3, 12) and not high.any()
    for parts in ([ROWS], [None, None], [ROWS, ROWS], [ROWS[0], None]):
        with pytest.raises(BadFile, match="bundled is not for this model"):
            aligned(parts, (8, 12), "bundled")


# ---- what a library shows ---------------------------------------------------------------------------


def test_facts_of_a_pickle(pickle):
    facts = embedding_facts(read_header(pickle(A1111)))
    assert (facts.name, facts.step, facts.checkpoint) == ("easy", 1999, "v1-5")
    assert (facts.vectors, facts.widths, facts.checkpoint_hash) == (3, (8,), "a9263745")


@pytest.mark.parametrize(
    "arch, sizes",
    [
        (Arch.SD1, {"emb_params": 768}),
        (Arch.SD2, {"<a>": 1024}),
        (Arch.SDXL, {"clip_l": 768, "clip_g": 1280}),
        (Arch.SDXL, {"clip_l": 768}),
        (Arch.SDXL, {"clip_g": 1280}),
        (Arch.OTHER, {"<a>": 5}),
    ],
)
def test_the_family_is_known_by_the_widths(file, arch, sizes):
    path = file(**{name: torch.zeros(4, width) for name, width in sizes.items()})
    facts = embedding_facts(read_header(path))
    assert (facts.arch, facts.vectors) == (arch, 4)
    assert facts.tokens == (("<a>",) if "<a>" in sizes else ())


def test_a_hostile_step_is_no_step(file):
    path = file({"step": "9" * 5000, "name": "n"}, emb_params=ROWS)
    assert embedding_facts(read_header(path)).step is None


# ---- the old checksum -------------------------------------------------------------------------------


def checksum(numbers):
    """The published rule in unbounded numbers: r·281 xor int(100 v)·997, modulo 2^32 each time."""
    total = 0
    for number in numbers:
        total = ((total * 281) ^ (int(number) * 997)) % 4294967296
    return format(total % 65536, "04x")


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), max_size=30))
def test_the_checksum_is_the_published_one(numbers):
    values = torch.tensor(numbers, dtype=torch.float32)
    assert short_checksum(values) == checksum((values * 100).tolist())


def test_the_checksum_of_known_vectors():
    assert short_checksum(torch.zeros(2, 8)) == "0000"
    assert short_checksum(torch.tensor([[0.01, -0.02]])) == f"{(997 * 281 ^ -1994) & 0xFFFF:04x}"
    assert json.dumps(short_checksum(ROWS)) != short_checksum(ROWS + 1)
