"""Which files on the machine may show previews, by the setting and by where they lie."""

from pathlib import Path

import pytest

from darkroom.core.errors import BadFile, UnknownName
from darkroom.core.model import Arch, Kind
from darkroom.library import previews
from darkroom.library.index import Index
from darkroom.library.listing import Wanted
from darkroom.library.models import Library
from darkroom.library.offered import rows
from darkroom.library.previews import previewing_of
from preview_files import approx_state, tiny_dims, tiny_state, written


@pytest.fixture(autouse=True)
def shipped(tmp_path, monkeypatch):
    path = tmp_path / "program" / "preview.safetensors"
    monkeypatch.setattr(previews, "shipped_path", lambda: path)
    return path


@pytest.fixture
def folder(tmp_path):
    models = tmp_path / "models"
    written(models / "VAE-approx" / "model.pt", approx_state())
    written(models / "VAE-approx" / "taesd_decoder.pth", tiny_state())
    written(models / "vae_approx" / "taesdxl_decoder.safetensors", tiny_state(seed=1))
    written(models / "VAE-approx" / "taesd3.pth", tiny_state(tiny_dims(latent_channels=16)))
    written(models / "other" / "taesd.safetensors", tiny_state(prefix="decoder.", seed=2))
    written(models / "other" / "mine.safetensors", tiny_state(seed=3), {"darkroom.base": "5" * 64})
    (models / "VAE-approx" / "page.pt").write_text("<html>")
    return models


@pytest.fixture
def library(folder, tmp_path):
    return Library((folder,), Index(tmp_path / "library.sqlite"))


def names(found):
    return [card.name for card in found.decoders]


def test_decoders_are_found_where_programs_keep_them_the_finer_first(library):
    found = previewing_of(library, "auto")
    stems = [Path(card.path).stem for card in found.decoders]
    assert sorted(stems[:-1]) == ["taesd", "taesd_decoder", "taesdxl_decoder"]
    assert stems[-1] == "model"
    archs = {Path(card.path).stem: card.arch for card in found.decoders}
    assert archs["taesdxl_decoder"] is Arch.SDXL and archs["taesd_decoder"] is Arch.SD1
    assert (found.method, found.named, found.shipped) == ("auto", False, "")


def test_nothing_is_looked_for_where_nothing_is_wanted(library, monkeypatch):
    monkeypatch.setattr(library.catalogue, "survey", None)
    for method in ("matrix", "full", "off"):
        assert previewing_of(library, method).decoders == ()


def test_only_likely_files_are_opened(library, monkeypatch):
    seen = []
    facts = library.catalogue.facts
    monkeypatch.setattr(library.catalogue, "facts", lambda i: seen.append(i.stem) or facts(i))
    previewing_of(library, "tiny")
    assert "mine" not in seen and "taesd" in seen


def test_the_one_of_the_program_goes_first_if_it_is_there(library, shipped):
    written(shipped, tiny_state(seed=9), {"darkroom.base": "5" * 64})
    found = previewing_of(library, "auto")
    assert names(found)[0] == "starter" and found.shipped == found.decoders[0].sha256
    assert found.decoders[0].metadata["darkroom.base"] == "5" * 64
    named = previewing_of(library, "Starter")
    assert named.named and names(named) == ["starter"]
    shipped.write_bytes(b"damaged")
    assert "starter" not in names(previewing_of(library, "auto"))


def test_any_decoder_is_found_by_its_name_or_path(library, folder):
    for name in ("mine", "other/mine.safetensors", str(folder / "other" / "mine.safetensors")):
        found = previewing_of(library, name)
        assert (found.method, found.named) == ("tiny", True)
        assert found.decoders[0].metadata["darkroom.base"] == "5" * 64


@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        ("tinny", UnknownName, "unknown preview decoder"),
        ("taesd3", BadFile, "Stable Diffusion 3"),
        ("starter", Exception, "no preview decoder comes with"),
    ],
)
def test_what_is_none_is_refused_by_name(library, name, error, why):
    with pytest.raises(error, match=why) as caught:
        previewing_of(library, name)
    assert caught.value.hint
    if error is UnknownName:
        assert "'tiny'" in caught.value.hint and "models/VAE-approx" in caught.value.hint


def test_a_list_of_models_has_them_under_their_kind(library):
    found = library.list(Wanted(kind=Kind.PREVIEW))
    assert {Path(each.path).stem for each in found} == {
        "model", "taesd_decoder", "taesdxl_decoder", "taesd3", "taesd", "mine"
    }  # fmt: skip
    assert [each.path.stem for each in found if each.problem] == ["taesd3"]
    assert list(rows(Kind.PREVIEW)) == []
