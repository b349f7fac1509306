"""Which tiny decoder is for which model, and what other programs call the ways."""

import pytest

from darkroom.core.errors import BadRequest
from darkroom.core.model import Arch, Kind, ModelCard
from darkroom.core.preview import METHODS, Previewing, latents_of, method_of, misfit
from darkroom.core.settings import Configured

OWN = {"darkroom.latent_rgb": "[]"}


def card(name="model", arch=Arch.SD1, kind=Kind.CHECKPOINT, sha="a", **metadata):
    told = {f"darkroom.{key}": value for key, value in metadata.items()}
    return ModelCard(
        sha256=sha * 64, path=name, name=name, kind=kind, arch=arch, bytes=1, metadata=told
    )


def decoder(name="tae", arch=Arch.SD1, sha="d", **metadata):
    return card(name, arch, Kind.PREVIEW, sha, **metadata)


PLAIN, LARGE, REFINER = card(), card(arch=Arch.SDXL), card(arch=Arch.SDXL_REFINER)
STARTER = card("starter", sha="5", latent_rgb="[]", latents="starter-1")
TUNED = card("tuned", sha="6", latent_rgb="[]", latents="starter-1")
OLD = card("old", sha="7", latent_rgb="[]")
OURS = decoder("ours", Arch.OTHER, base="5" * 64, latents="starter-1")


@pytest.mark.parametrize(
    ("one", "model", "fits"),
    [
        (decoder(), PLAIN, True),
        (decoder(), card(arch=Arch.SD2), True),
        (decoder(), LARGE, False),
        (decoder(arch=Arch.SDXL), LARGE, True),
        (decoder(arch=Arch.SDXL), REFINER, True),
        (decoder(arch=Arch.SDXL), PLAIN, False),
        (decoder(), STARTER, False),  # an SD1 by its layout, with latents of its own
        (decoder(), OLD, False),
        (OURS, STARTER, True),
        (OURS, TUNED, True),  # another file with the same VAE
        (OURS, PLAIN, False),
        (decoder(base="7" * 64), OLD, True),
        (decoder(base="8" * 64), OLD, False),
        (decoder(base="8" * 64), PLAIN, False),
        (decoder(arch=Arch.OTHER), card(arch=Arch.OTHER), False),
    ],
)
def test_a_decoder_is_for_the_latents_it_was_made_for(one, model, fits):
    assert (misfit(one, model) == "") is fits
    assert (Previewing(decoders=(one,)).decoder_for(model) is one) is fits


def test_why_it_does_not_fit_is_said_with_names():
    assert "ours was trained with the model whose SHA-256 begins with 5555555555" in misfit(
        OURS, PLAIN
    )
    assert "tae is for SD1, and model has the latents of SDXL" in misfit(decoder(), LARGE)
    assert "starter has a VAE of its own" in misfit(decoder(), STARTER)


def test_what_is_asked_for_by_name_and_does_not_fit_is_refused():
    asked = Previewing(method="tiny", decoders=(OURS,), named=True)
    asked.check(STARTER)
    with pytest.raises(BadRequest, match="was trained with") as error:
        asked.check(PLAIN)
    assert "--preview auto" in error.value.hint


@pytest.mark.parametrize(
    ("model", "file"), [(PLAIN, "taesd_decoder"), (LARGE, "taesdxl_decoder"), (OLD, "")]
)
def test_tiny_without_a_decoder_is_refused_with_the_file_to_get(model, file):
    with pytest.raises(BadRequest, match="no tiny preview decoder is for") as error:
        Previewing(method="tiny", decoders=(OURS,)).check(model)
    assert (f"{file}.safetensors" in error.value.hint) is bool(file)
    Previewing(method="auto").check(model)


def test_auto_passes_over_what_does_not_fit_and_says_so_where_that_is_news():
    other = decoder("other", Arch.OTHER, "e", base="8" * 64)
    shipped = Previewing(decoders=(OURS,), shipped=OURS.sha256)
    assert list(shipped.notes(PLAIN)) == []  # nobody expects it there
    assert list(shipped.notes(STARTER)) == []
    (note,) = shipped.notes(OLD)
    assert "ours was trained with" in note and "colours of the latent" in note
    (note,) = Previewing(decoders=(other, decoder(arch=Arch.SDXL))).notes(PLAIN)
    assert "other was trained with" in note
    assert list(Previewing(decoders=(other, decoder())).notes(PLAIN)) == []
    assert list(Previewing(method="matrix", decoders=(other,)).notes(PLAIN)) == []


def test_latents_have_the_name_that_the_file_gives_them():
    assert [latents_of(each) for each in (PLAIN, REFINER, STARTER)] == ["SD1", "SDXL", "starter-1"]
    assert latents_of(OLD) == f"those of {OLD.sha256}"
    assert latents_of(card(arch=Arch.FLUX)) == ""


@pytest.mark.parametrize(
    ("word", "method"),
    [
        *((method, method) for method in METHODS),
        ("TAESD", "tiny"),
        ("Approx NN", "tiny"),
        ("approx-cheap", "matrix"),
        ("Latent2RGB", "matrix"),
        ("Simple", "matrix"),
        ("FULL", "full"),
        ("none", "off"),
        ("taesd_decoder", None),
    ],
)
def test_other_programs_names_are_understood(word, method):
    assert method_of(word) == method
    settings = Configured.load({}, {"preview": word}).values
    assert settings.preview == (method or word)


def test_an_empty_method_is_refused():
    with pytest.raises(BadRequest, match="must be auto, tiny"):
        Configured.load({}, {"preview": " "})
