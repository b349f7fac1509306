"""Embeddings on the shelf: which words stand for which vectors, for one and two text encoders."""

import base64
import json
from hashlib import sha256

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from darkroom.engine.shelf import Shelf
from darkroom.engine.tokenizer import Tokenizer

L, G = 8, 12
LOW = torch.arange(2 * L, dtype=torch.float32).reshape(2, L)
HIGH = torch.arange(2 * G, dtype=torch.float32).reshape(2, G) / 3


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer()


@pytest.fixture
def shelf(tokenizer, tmp_path):
    """A shelf of safetensors files, by their words."""

    def make(**files):
        paths = {}
        for name, tensors in files.items():
            paths[name] = tmp_path / f"{name}.safetensors"
            save_file({key: value.clone() for key, value in tensors.items()}, paths[name])
        return Shelf(tokenizer, paths)

    return make


def read(shelf, text, *widths):
    """The vectors that stand in `text`, by their word; the recipe's files; what was said."""
    said = []
    words, used = shelf.words([text], widths, said.append)
    if words is None:
        return {}, used, said
    tokens = Tokenizer().encode(text)
    return {name: run for name, run in words.read(tokens) if name}, used, said


def stacked(run, encoder):
    return torch.stack([token.vectors[encoder] for token in run])


def test_one_encoder_gets_one_vector_per_place(shelf):
    found, (used,), said = read(shelf(easy={"emb_params": LOW}), "an easy day", L)
    assert torch.equal(stacked(found["easy"], 0), LOW)
    assert [len(token.vectors) for token in found["easy"]] == [1, 1]
    assert (used.role, used.name, said) == ("embedding", "easy", [])


def test_two_encoders_get_one_each(shelf):
    made = shelf(easy={"clip_l": LOW, "clip_g": HIGH})
    found, (used,), _ = read(made, "easy", L, G)
    assert torch.equal(stacked(found["easy"], 0), LOW)
    assert torch.equal(stacked(found["easy"], 1), HIGH)
    assert used.sha256 == sha256(made.files["easy"].read_bytes()).hexdigest()


def test_one_shelf_serves_models_of_every_family(shelf):
    made = shelf(easy={"clip_l": LOW, "clip_g": HIGH}, plain={"emb_params": LOW})
    both, _, said = read(made, "easy plain", L, G)
    assert list(both) == ["easy"] and "'plain' is read as words" in said[0]
    assert set(read(made, "easy plain", L)[0]) == {"easy", "plain"}
    assert torch.equal(stacked(read(made, "easy", G)[0]["easy"], 0), HIGH)


def test_the_same_files_give_the_same_words_and_changed_ones_others(shelf):
    made = shelf(easy={"emb_params": LOW})
    say = print
    first, _ = made.words(["easy"], (L,), say)
    assert made.words(["an easy one"], (L,), say)[0] is first
    save_file({"emb_params": LOW[:1] + 1}, made.files["easy"])
    second, _ = made.words(["easy"], (L,), say)
    assert second is not first
    assert len(dict(second.read(Tokenizer().encode("easy")))["easy"]) == 1


def test_a_file_that_is_gone_is_words(shelf):
    made = shelf(easy={"emb_params": LOW})
    made.files["easy"].unlink()
    found, used, said = read(made, "easy", L)
    assert (found, used) == ({}, ()) and "cannot be read" in said[0]


def test_nothing_named_is_nothing_read(shelf):
    made = shelf(easy={"lora_a.lora_up.weight": LOW})
    assert read(made, "a cat", L) == ({}, (), [])
    assert "not an embedding" in read(made, "easy", L)[2][0]


# ---- words besides the file's name ------------------------------------------------------------------


def test_a_token_in_a_file_is_a_word_for_its_own_vectors(shelf):
    made = shelf(learned_embeds={"<a>": LOW[:1], "<b>": LOW[1:]})
    found, used, _ = read(made, "<b> and <a>", L)
    assert torch.equal(stacked(found["<a>"], 0), LOW[:1])
    assert torch.equal(stacked(found["<b>"], 0), LOW[1:])
    assert sorted(one.name for one in used) == ["<a>", "<b>"]
    assert len(read(made, "learned_embeds", L)[0]["learned_embeds"]) == 2


def test_a_files_name_goes_before_a_token_in_another(shelf):
    made = shelf(**{"<a>": {"emb_params": LOW}, "other": {"<a>": HIGH}})
    assert torch.equal(stacked(read(made, "<a>", L)[0]["<a>"], 0), LOW)


def picture(path, **said):
    tensor = {"TORCHTENSOR": LOW.tolist()}
    text = json.dumps({"string_to_param": {"*": tensor}, **said})
    info = PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(text.encode()).decode())
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_a_picture_counts_under_its_own_name_and_the_one_inside(tokenizer, tmp_path):
    made = Shelf(tokenizer, {"shown": picture(tmp_path / "shown.png", name="inner")})
    for word in ("shown", "inner"):
        found, (used,), _ = read(made, word, L)
        assert torch.equal(stacked(found[word], 0), LOW)
        assert used.name == word


def test_a_picture_without_an_embedding_is_passed_over_in_silence(tokenizer, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    made = Shelf(tokenizer, {"cat": tmp_path / "cat.png"})
    assert read(made, "cat", L) == ({}, (), [])
    assert read(made, "cat", L, G) == ({}, (), [])


def test_a_name_that_cannot_be_used_does_not_hide_a_shorter_one(shelf, tokenizer, tmp_path):
    made = shelf(easy={"emb_params": LOW}, apple={"emb_params": LOW}, other={"emb_params": HIGH})
    Image.new("RGB", (8, 8)).save(tmp_path / "easy apple.png")
    longer = Shelf(tokenizer, {**made.files, "easy apple": tmp_path / "easy apple.png"})
    found, used, said = read(longer, "easy apple", L)
    assert sorted(found) == [one.name for one in used] == ["apple", "easy"]
    assert said == []
    longer = Shelf(tokenizer, {**made.files, "easy apple": made.files["other"]})
    found, _, said = read(longer, "easy apple", L)
    assert sorted(found) == ["apple", "easy"] and len(said) == 1


def test_a_name_within_another_is_not_used(shelf, tokenizer):
    made = shelf(easy={"emb_params": LOW}, apple={"emb_params": HIGH}, both={"emb_params": LOW})
    longer = Shelf(tokenizer, {**made.files, "easy apple": made.files["both"]})
    found, used, said = read(longer, "easy apple", L)
    assert list(found) == [one.name for one in used] == ["easy apple"] and said == []


# ---- words for a while ------------------------------------------------------------------------------


def test_more_words_stand_beside_files_and_hide_their_namesakes(shelf):
    made = shelf(easy={"emb_params": LOW}, other={"emb_params": LOW})
    more = made.with_extra({"easy": (LOW + 1,), "bundled": (LOW[:1],)})
    found, used, _ = read(more, "easy other bundled", L)
    assert torch.equal(stacked(found["easy"], 0), LOW + 1)
    assert torch.equal(stacked(found["bundled"], 0), LOW[:1])
    assert [one.name for one in used] == ["other"]
    assert torch.equal(stacked(read(made, "easy", L)[0]["easy"], 0), LOW)
    assert read(made, "bundled", L)[0] == {}


def test_more_words_for_two_encoders_of_which_one_may_lack(shelf):
    more = shelf().with_extra({"x": (None, HIGH)})
    run = read(more, "x", L, G)[0]["x"]
    assert not stacked(run, 0).any() and torch.equal(stacked(run, 1), HIGH)
    assert "'x' is read as words" in read(more, "x", L)[2][0]


def test_more_words_are_read_once(shelf):
    more = shelf().with_extra({"x": (LOW,)})
    assert more.words(["x"], (L,), print)[0] is more.words(["x x"], (L,), print)[0]


def test_the_same_more_words_are_the_same_another_time(shelf):
    """A LoRA with a word comes and goes with every job; its prompts are encoded once."""
    made = shelf(easy={"emb_params": LOW})
    first, _ = made.with_extra({"x": (LOW,)}).words(["x easy"], (L,), print)
    again, _ = made.with_extra({"x": (LOW.clone(),)}).words(["x easy"], (L,), print)
    other, _ = made.with_extra({"x": (LOW + 1,)}).words(["x easy"], (L,), print)
    assert first is again is not other


def test_a_shelf_without_words_is_false(shelf):
    assert not shelf()
    assert shelf(a={"emb_params": LOW}) and shelf().with_extra({"x": (LOW,)})
