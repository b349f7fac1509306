import hashlib
import json

import pytest

from darkroom.core.errors import BadFile, UnknownName
from darkroom.library.hashes import HashBook
from darkroom.library.models import Library
from tiny import tiny_checkpoint


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models" / "anime").mkdir(parents=True)
    tiny_checkpoint(tmp_path / "models" / "base.safetensors")
    tiny_checkpoint(
        tmp_path / "models" / "anime" / "ink.safetensors",
        seed=1,
        metadata={
            "modelspec.resolution": "128x128",
            "darkroom.recommended": json.dumps({"cfg_scale": 5, "steps": 10**9, "prompt": "x"}),
        },
    )
    (tmp_path / "models" / "page.safetensors").write_text("<html>not found</html>")
    return tmp_path


@pytest.fixture
def library(folder):
    return Library((folder / "models",), HashBook(folder / "library.sqlite"))


def test_every_file_is_listed_and_what_cannot_be_used_says_why(library):
    found = {item.name: item for item in library.list() if item.name != "starter"}
    assert set(found) == {"base", "anime/ink", "page"}
    assert found["base"].card is not None
    assert "web page" in found["page"].problem


def test_a_model_is_found_by_name_hash_and_path(library, folder):
    card = library.find("anime/ink")
    assert library.find("ANIME/Ink").path == card.path
    assert library.find(card.sha256[:10]) == card
    assert library.find(str(folder / "models" / "anime" / "ink.safetensors")).sha256 == card.sha256
    assert (
        card.sha256
        == hashlib.sha256((folder / "models/anime/ink.safetensors").read_bytes()).hexdigest()
    )


def test_recommendations_that_make_no_sense_are_dropped(library):
    card = library.find("anime/ink")
    assert card.native_size == 128
    assert card.recommended == {"cfg_scale": 5.0}


def test_an_unknown_name_offers_the_nearest(library):
    with pytest.raises(UnknownName) as caught:
        library.find("anime/inc")
    assert caught.value.nearest == ["anime/ink"]


def test_a_path_that_is_not_there_is_said_to_be_missing(library, folder):
    with pytest.raises(BadFile, match="there is no file"):
        library.find(str(folder / "none.safetensors"))


def test_a_hash_is_computed_once_and_again_when_the_file_changes(folder, monkeypatch):
    path = folder / "models" / "base.safetensors"
    book = HashBook(folder / "book.sqlite")
    first = book.sha256(path)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert HashBook(folder / "book.sqlite").sha256(path) == first
    monkeypatch.undo()
    tiny_checkpoint(path.with_name("other.safetensors"), seed=5).replace(path)
    assert book.sha256(path) != first


def test_hashes_work_without_a_place_to_keep_them(folder):
    (folder / "file").write_text("x")
    book = HashBook(folder / "file" / "below.sqlite")
    path = folder / "models" / "base.safetensors"
    assert book.sha256(path) == book.sha256(path)


def test_a_damaged_hash_table_is_only_a_lost_cache(folder):
    (folder / "bad.sqlite").write_bytes(b"not a database" * 100)
    assert len(HashBook(folder / "bad.sqlite").sha256(folder / "models" / "base.safetensors")) == 64
