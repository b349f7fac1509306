"""Captioners among the models: listed, found by name, by path, and told from all else."""

import json

import pytest
import torch
from safetensors.torch import save_file

from darkroom.core.errors import BadFile, UnknownName
from darkroom.core.model import Kind
from darkroom.library.index import Index
from darkroom.library.models import Library

BLIP = {
    "vision_model.embeddings.class_embedding": torch.zeros(1, 1, 8),
    "text_decoder.bert.embeddings.word_embeddings.weight": torch.zeros(4, 8),
}


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "models" / "BLIP" / "blip-base"
    folder.mkdir(parents=True)
    save_file(BLIP, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "blip"}))
    tagger = tmp_path / "models" / "torch_deepdanbooru" / "wd14"
    tagger.mkdir(parents=True)
    (tagger / "model.onnx").write_bytes(b"\x08\x07" * 20)
    (tagger / "selected_tags.csv").write_text("tag_id,name,category,count\n")
    return Library((tmp_path / "models",), Index(tmp_path / "library.sqlite"))


@pytest.mark.parametrize("name", ["blip-base", "wd14"])
def test_a_captioner_is_found_by_its_name(library, name):
    card = library.find_of(Kind.CAPTIONER, name)
    assert (card.name, card.kind) == (name, Kind.CAPTIONER)
    assert len(card.sha256) == 64
    assert library.find_of(Kind.CAPTIONER, card.path).sha256 == card.sha256


def test_both_are_listed_once(library):
    found = [each.name for each in library.list() if each.kind is Kind.CAPTIONER]
    assert sorted(found) == ["blip-base", "wd14"]


def test_a_captioner_is_no_checkpoint(library):
    with pytest.raises(BadFile, match="a tagger"):
        library.find("wd14")


def test_a_missing_one_says_how_to_pull_it(library):
    with pytest.raises(UnknownName) as refused:
        library.find_of(Kind.CAPTIONER, "deepbooru")
    assert "darkroom models pull hf:" in refused.value.hint
