"""BLIP from a folder with generated weights: reading, writing words, stopping, refusing."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from darkroom.core.errors import BadFile, Cancelled
from darkroom.core.model import Kind
from darkroom.engine.caption.blip import LONGEST, Blip, vocabulary
from darkroom.weights.header import read_header
from darkroom.weights.identify import identify

pytestmark = pytest.mark.slow  # importing transformers alone takes seconds
PIECES = ["[PAD]", "[DEC]", "[SEP]", "[UNK]", "a", "cat", "sit", "##s", "on", "grass", ".", "'"]
LAYERS = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
CONFIG = {
    "architectures": ["BlipForConditionalGeneration"],
    "model_type": "blip",
    "vision_config": {**LAYERS, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8},
    "text_config": {
        **LAYERS,
        "encoder_hidden_size": 8,
        "num_hidden_layers": 1,
        "vocab_size": len(PIECES),
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 2,
        "pad_token_id": 0,
    },
    "projection_dim": 8,
    "image_text_hidden_size": 8,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import BlipConfig, BlipForConditionalGeneration

    torch.manual_seed(3)
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("blip")
    network = BlipForConditionalGeneration(BlipConfig(**CONFIG))
    names = network.state_dict()
    for value in names.values():
        if value.is_floating_point():
            value.normal_(0, 0.4)
    kept = {name: value.contiguous().clone() for name, value in names.items()}
    save_file(kept, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def picture(colour="red"):
    return Image.new("RGB", (40, 20), colour)


def test_it_writes_words_of_its_vocabulary_and_no_more_than_it_may(folder):
    found = Blip.read(folder).describe(picture())
    assert found.tags == ()
    assert 0 < len(found.text.split()) <= LONGEST
    assert not set("[]#") & set(found.text)


def test_the_same_picture_has_the_same_words(folder):
    captioner = Blip.read(folder)
    assert captioner.describe(picture()).text == captioner.describe(picture()).text


def test_pieces_become_words(folder):
    captioner = Blip.read(folder)
    assert captioner._words([1, 4, 5, 6, 7, 8, 9, 10, 2, 0]) == "a cat sits on grass ."


def test_a_stop_ends_the_writing(folder):
    asked = []

    def stop():
        asked.append(1)
        if len(asked) > 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        Blip.read(folder).describe(picture(), check=stop)


def test_the_folder_is_known_as_a_captioner(folder):
    found = identify(read_header(folder))
    assert (found.kind, found.label) == (Kind.CAPTIONER, "a BLIP captioner")


def test_a_vocabulary_in_tokenizer_json(tmp_path):
    words = {"[PAD]": 0, "cat": 1}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}}))
    assert vocabulary(tmp_path) == {0: "[PAD]", 1: "cat"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "{", "not a JSON object"),
        ("config.json", json.dumps({"architectures": ["BertModel"]}), "BertModel"),
        ("vocab.txt", None, "tokenizer.json"),
        ("model.safetensors", None, "without a model"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(copy, name, content, said):
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_text(content)
    with pytest.raises(BadFile, match=said):
        Blip.read(copy)


def test_a_file_need_not_hold_twice_what_the_network_has_twice(copy):
    """Words go in and come out by one table, which is written once."""
    whole = load_file(copy / "model.safetensors")
    twin = whole.pop("text_decoder.cls.predictions.decoder.weight")
    whole["text_decoder.bert.embeddings.word_embeddings.weight"] = twin
    save_file(whole, copy / "model.safetensors")
    network = Blip.read(copy)._network.state_dict()
    assert torch.equal(network["text_decoder.cls.predictions.decoder.weight"], twin)


def test_tensors_that_do_not_fit_are_refused(copy):
    told = json.loads((copy / "config.json").read_text())
    told["text_config"]["vocab_size"] = 40
    (copy / "config.json").write_text(json.dumps(told))
    with pytest.raises(BadFile, match="shape"):
        Blip.read(copy)
