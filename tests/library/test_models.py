import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from darkroom.core.errors import BadFile, BadRequest, UnknownName
from darkroom.core.model import Kind
from darkroom.core.settings import Configured
from darkroom.library import catalogue, models
from darkroom.library.catalogue import Catalogue
from darkroom.library.index import Index
from darkroom.library.listing import Wanted, family_of
from darkroom.library.models import Library
from tiny import tiny_checkpoint, tiny_layout, write_tensors


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


def book_at(database):
    return Catalogue(tuple, Index(database))


@pytest.fixture
def library(folder):
    return Library((folder / "models",), Index(folder / "library.sqlite"))


def test_a_long_search_by_hash_is_told_of_and_is_made_once(folder, monkeypatch):
    monkeypatch.setattr(models, "TOLD_READ", 1_000_000)  # bytes
    told = []
    library = Library((folder / "models",), Index(folder / "library.sqlite"), tell=told.append)
    assert library.find_hash("00c0ffee00") is None
    assert len(told) == 1 and "starts with 00c0ffee00" in told[0] and "GB are read" in told[0]
    assert library.find_hash("00c0ffee00") is None  # every hash is known by now
    assert len(told) == 1


def test_every_file_is_listed_and_what_cannot_be_used_says_why(library):
    found = {item.name: item for item in library.list() if item.name != "starter"}
    assert set(found) == {"base", "anime/ink", "page"}
    assert found["base"].usable
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


def test_a_listed_name_may_carry_its_extension(library, folder, monkeypatch):
    assert library.find("base.safetensors").name == "base"
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    tiny_checkpoint(Path("base.safetensors"), seed=7)
    assert library.find("base.safetensors").path == str(folder / "work" / "base.safetensors")


def test_a_path_to_a_listed_file_has_the_listed_name(library, folder):
    assert library.find(str(folder / "models" / "anime" / "ink.safetensors")).name == "anime/ink"


def listed(library):
    return {item.name: item.path for item in library.list() if item.name != "starter"}


def test_an_old_pickle_does_not_hide_the_model_beside_it(library, folder):
    (folder / "models" / "base.ckpt").write_bytes(b"\x80\x02}q\x00.")
    found = listed(library)
    assert found["base"] == folder / "models" / "base.safetensors"
    assert found["base.ckpt"] == folder / "models" / "base.ckpt"
    assert library.find("base").path.endswith("base.safetensors")
    with pytest.raises(BadFile, match="pickle"):
        library.find("base.ckpt")


def test_no_file_is_dropped_for_its_name(folder):
    more = folder / "more"
    more.mkdir()
    (more / "models").mkdir()
    for name in ("base", "starter", "Base", "models/base"):
        tiny_checkpoint(more / f"{name}.safetensors", seed=3)
    folders = (folder / "models", more, more, more / "models")  # some twice
    library = Library(folders, Index(folder / "library.sqlite"))
    found = listed(library)
    files = [path for top in (folder / "models", more) for path in top.rglob("*.safetensors")]
    assert sorted(found.values()) == sorted(files)
    assert found["more/base"] == more / "base.safetensors"
    assert found["more/starter"] == more / "starter.safetensors"
    for name, path in found.items():
        if "page" not in name:
            assert library.find(name).path == str(path)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_followed_once(library, folder):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    tiny_checkpoint(elsewhere / "far.safetensors")
    (folder / "models" / "linked").symlink_to(elsewhere)
    (folder / "models" / "round").symlink_to(folder / "models")
    (folder / "models" / "dangling.safetensors").symlink_to(folder / "gone")
    assert set(listed(library)) == {"base", "anime/ink", "page", "linked/far", "dangling"}


def test_a_folder_that_cannot_be_looked_into_is_listed_with_the_reason(folder):
    (folder / "file").touch()
    asked = (folder / "models", folder / "nowhere", folder / "file")
    library = Library(asked, Index(folder / "book"), own=(folder / "own",))
    problems = {item.path: item.problem for item in library.list() if item.path in asked}
    assert problems == {
        folder / "nowhere": "there is no such folder",
        folder / "file": "it is a file, not a folder of models",
    }
    assert library.find("base").name == "base"


def test_settings_describe_a_library(folder):
    settings = Configured.load(
        {"DARKROOM_DATA_DIR": str(folder), "DARKROOM_MODELS_DIRS": str(folder / "models" / "anime")}
    ).values
    assert set(listed(Library.of(settings))) == {"ink", "base", "page"}


def test_a_listing_hashes_nothing_and_says_what_is_known(library, folder, monkeypatch):
    sha256 = library.find("base").sha256
    monkeypatch.setattr(hashlib, "file_digest", None)
    found = {item.name: item for item in library.list()}
    assert found["base"].hashes.sha256 == sha256
    assert found["anime/ink"].hashes.sha256 == ""
    assert (
        found["anime/ink"].facts.bytes == (folder / "models/anime/ink.safetensors").stat().st_size
    )
    assert library.find_hash(sha256).name == "base"  # known, so no other is read


def test_of_a_hash_the_likely_file_is_read_first(library, folder, monkeypatch):
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind)
    )
    sha256 = hashlib.sha256((folder / "models/base.safetensors").read_bytes()).hexdigest()
    assert library.find_hash(sha256, likely="base").name == "base"
    assert [Path(name).stem for name in read] == ["base"]


def test_a_damaged_starter_says_install(library, folder, monkeypatch):
    monkeypatch.setattr(models, "starter_path", lambda: folder / "starter.safetensors")
    for content in (None, b"cut"):
        if content:
            (folder / "starter.safetensors").write_bytes(content)
        with pytest.raises(BadFile) as caught:
            library.find("starter")
        assert caught.value.hint == "Install Darkroom again."


def test_hostile_names_are_sentences(library):
    for name in ("x" * 300, "x" * 300 + ".safetensors", "~nosuchuser/x", "a\0b", "x" * 5000):
        with pytest.raises(BadRequest):
            library.find(name)


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
    book = book_at(folder / "book.sqlite")
    first = book.hashes(path)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert book_at(folder / "book.sqlite").hashes(path) == first
    monkeypatch.undo()
    tiny_checkpoint(path.with_name("other.safetensors"), seed=5).replace(path)
    assert book.hashes(path) != first


def test_hashes_work_without_a_place_to_keep_them(folder):
    (folder / "file").write_text("x")
    book = book_at(folder / "file" / "below.sqlite")
    path = folder / "models" / "base.safetensors"
    assert book.hashes(path) == book.hashes(path)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there")
def test_names_that_are_no_text_are_told_apart(library, folder):
    files = [folder / "models" / os.fsdecode(bytes([0xE0 + n]) + b".safetensors") for n in range(8)]
    for path in files:
        path.touch()
    found = listed(library)
    assert set(files) < set(found.values())
    for name in found:
        name.encode()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there")
def test_a_name_that_is_no_text_is_remembered_too(folder, monkeypatch):
    path = folder / os.fsdecode(b"\xe9.safetensors")
    path.write_bytes(b"x")
    book = book_at(folder / "book.sqlite")
    assert not book.known_hashes(path)
    sha256 = book.hashes(path)
    assert book.known_hashes(path) == sha256


def test_a_file_that_may_not_be_looked_at(folder, monkeypatch):
    def refuse(self, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    book = book_at(folder / "book.sqlite")
    with pytest.raises(BadFile, match="Permission denied"):
        book.hashes(folder / "models" / "base.safetensors")
    assert not book.known_hashes(folder / "models" / "base.safetensors")


def test_a_damaged_hash_table_is_only_a_lost_cache(folder):
    (folder / "bad.sqlite").write_bytes(b"not a database" * 100)
    assert (
        len(book_at(folder / "bad.sqlite").hashes(folder / "models" / "base.safetensors").sha256)
        == 64
    )


def test_of_two_used_files_with_one_stem_the_one_with_the_hash_is_found(folder, tmp_path):
    library = Library((), Index(folder / "book"), own=(folder / "own",))
    paths = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        paths.append(tiny_checkpoint(tmp_path / place / "same.safetensors"))
    sha256 = {path: library.find(str(path)).sha256 for path in paths}
    changed = paths[0].with_suffix(".old")
    paths[0].rename(changed)
    tiny_checkpoint(paths[0], metadata={"made": "later"})  # so this one has the hash no more
    assert len(set(sha256.values())) == 1
    assert library.find_hash(sha256[paths[1]]).path == str(paths[1])


def tiny_vae(path):
    rows = tiny_layout()["vae"]
    return write_tensors(path, {row.source: np.zeros(row.stored, np.float16) for row in rows})


def test_the_vae_beside_a_checkpoint(library, folder):
    card = library.find("base")
    assert library.vae_beside(card) is None
    path = tiny_vae(folder / "models" / "base.vae.safetensors")
    vae = library.vae_beside(card)
    assert (vae.kind, vae.path, vae.name) == (Kind.VAE, str(path), "base.vae")
    assert library.find_of(Kind.VAE, "base.vae") == vae
    assert library.find_of(Kind.VAE, str(path)) == vae
    assert library.find_of(Kind.VAE, vae.sha256[:10]) == vae
    assert library.vae_beside(library.find("starter")) is None


def test_what_lies_beside_and_is_no_vae_says_so(library, folder):
    tiny_checkpoint(folder / "models" / "base.vae.safetensors")
    with pytest.raises(BadFile, match="SD1 checkpoint"):
        library.vae_beside(library.find("base"))


def test_a_name_may_be_used_for_two_kinds(library, folder, lora):
    path = lora(folder / "models" / "Lora" / "base.safetensors")
    lora(folder / "models" / "only.safetensors")
    assert library.find("base").kind is Kind.CHECKPOINT
    assert library.find_of(Kind.LORA, "base").path == str(path)
    assert [(f.kind, f.name) for f in library.list() if f.name == "base"] == [
        (Kind.CHECKPOINT, "base"),
        (Kind.LORA, "base"),
    ]
    with pytest.raises(BadFile, match="is a LoRA"):
        library.find("only")


def test_a_stem_is_enough(library, folder):
    assert library.find("ink").name == "anime/ink"
    assert library.find("anime\\ink").name == "anime/ink"


def test_a_start_looks_at_one_file_only(library, folder, monkeypatch):
    looked = []
    look = catalogue.examine
    monkeypatch.setattr(catalogue, "examine", lambda item: looked.append(item.stem) or look(item))
    library.find("base")
    assert looked == ["base"]
    library.find("starter")
    assert looked == ["base", "starter"]


def bare_checkpoint(path):
    """A checkpoint without a VAE."""
    rows = [row for part, some in tiny_layout().items() if part != "vae" for row in some]
    return write_tensors(path, {row.source: np.ones(row.stored, np.float16) for row in rows})


def test_a_checkpoint_without_a_vae_has_one_beside_it(library, folder):
    bare_checkpoint(folder / "models" / "bare.safetensors")
    (remark,) = library.look_up("bare").facts.problems
    assert "It has no VAE" in remark
    path = tiny_vae(folder / "models" / "bare.vae.safetensors")
    found = library.look_up("bare").facts
    assert found.problems == () and found.sidecars == ("bare.vae.safetensors",)
    assert "bare" not in [each.name for each in library.list(Wanted(problems=True))]
    assert library.look_up("bare.vae").facts.sidecars == ()
    path.unlink()
    assert library.look_up("bare").facts.problems == (remark,)


@pytest.mark.parametrize(
    "name",
    [
        "ink [885f6d3daf]",
        "ink.safetensors [885f6d3daf]",
        "anime/ink.safetensors [885F6D3DAF]",
        "anime\\ink.safetensors [885f6d3d]",
        "Stable-diffusion/ink.safetensors",
        "models/Stable-diffusion/anime/ink.safetensors",
        "checkpoints\\anime\\ink.safetensors",
        "Stable-diffusion/ink [885f6d3daf]",
    ],
)
def test_a_name_as_other_programs_write_it(library, folder, name):
    path = folder / "models" / "anime" / "ink.safetensors"
    assert library.find(name).path == str(path)
    assert library.look_up(name).path == path


def test_the_extension_in_a_title_counts(library, folder):
    (folder / "models" / "base.ckpt").write_bytes(b"\x80\x02}q\x00.")
    assert library.look_up("base.ckpt [885f6d3daf]").path.suffix == ".ckpt"


def test_the_hash_in_a_title_finds_what_was_renamed(library):
    sha256 = library.find("base").sha256
    assert library.find(f"old name.safetensors [{sha256[:10]}]").name == "base"
    with pytest.raises(UnknownName):
        library.find("old name [0123456789]")


def test_a_folder_of_a_kind_in_a_name_is_no_folder_that_is_there(library, lora, folder):
    path = lora(folder / "models" / "Lora" / "sub" / "pen.safetensors")
    assert library.find_of(Kind.LORA, "Lora/sub/pen").path == str(path)
    with pytest.raises(UnknownName):
        library.find_of(Kind.LORA, "other/pen")


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_no_model(library, folder, name, monkeypatch):
    monkeypatch.chdir(folder / "models")
    for look in (library.find, library.look_up, library.locate):
        with pytest.raises(BadRequest, match="name of a model is missing"):
            look(name)
    with pytest.raises(BadRequest):
        library.find_of(Kind.VAE, name)


def test_a_folder_that_is_no_model_is_not_read(library, folder):
    with pytest.raises(BadFile, match="a folder without a model"):
        library.look_up(str(folder))


def test_an_unknown_name_tells_of_folders_that_were_not_looked_into(folder):
    library = Library((folder / "nowhere",), Index(folder / "book"))
    with pytest.raises(UnknownName) as caught:
        library.find("dreamy")
    assert f"{folder / 'nowhere'} was not looked into" in caught.value.hint
    assert library.page(Wanted(kind=Kind.LORA)).missed == tuple(library.folder_problems())


@pytest.mark.parametrize(
    ("word", "family"),
    [
        ("SD1", "SD1"), ("sd 1.5", "SD1"), ("Stable Diffusion v1-5", "SD1"), ("1.5", "SD1"),
        ("sd2.1", "SD2"), ("XL", "SDXL"), ("SDXL 1.0", "SDXL"), ("stable-diffusion-xl", "SDXL"),
        ("sdxl refiner", "SDXL refiner"), ("SD 3.5", "SD3"), ("Flux.1", "Flux"), ("other", "other"),
    ],
)  # fmt: skip
def test_families_by_many_names(word, family):
    assert family_of(word) == family


@pytest.mark.parametrize("word", ["banana", "sd", "3", "-"])
def test_no_family(word):
    with pytest.raises(UnknownName, match="family") as caught:
        family_of(word)
    assert "SDXL refiner" in caught.value.hint


def test_what_may_be_for_two_families_is_listed_with_both(library, folder):
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k"
    tensors = {
        f"{layer}.lora_down.weight": np.zeros((4, 320), np.float16),
        f"{layer}.lora_up.weight": np.zeros((320, 4), np.float16),
    }
    write_tensors(folder / "models" / "either.safetensors", tensors)
    for arch in ("SD1", "SD2"):
        assert "either" in [each.name for each in library.list(Wanted(arch=arch))]
    assert "either" not in [each.name for each in library.list(Wanted(arch="SDXL"))]


def test_triggers_are_said_once(library, lora, folder):
    path = lora(folder / "models" / "wc.safetensors", {"trigger_words": "wcstyle"})
    note = {"activation text": "wcstyle, soft", "notes": "of a zebra"}
    path.with_suffix(".json").write_text(json.dumps(note))
    assert library.look_up("wc").facts.triggers == ("wcstyle, soft",)
    assert [each.name for each in library.list(Wanted(words=("zebra",)))] == ["wc"]
