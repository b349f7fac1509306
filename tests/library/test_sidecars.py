import json

import pytest

from darkroom.library.models import Library
from darkroom.library.sidecars import MOST_BYTES, names_beside, read_sidecars


def beside(folder, stem="foo"):
    return read_sidecars(folder, stem, names_beside(stem, {p.name for p in folder.iterdir()}))


def test_civitai_a1111_and_pictures(tmp_path):
    info = {
        "name": "v2",
        "baseModel": "SD 1.5",
        "trainedWords": ["inkstyle", "line art, "],
        "description": "<p>Best at <b>0.7</b> &amp; below</p>",
        "model": {"name": "Ink", "tags": ["style"]},
        "files": [{"hashes": {"SHA256": "AB" * 32, "AutoV3": "0123456789AB"}}],
    }
    (tmp_path / "foo.civitai.info").write_text(json.dumps(info))
    mine = {"activation text": "my ink", "preferred weight": 0.7, "notes": "n", "sd version": "SD1"}
    mine["negative text"] = "photo"
    (tmp_path / "foo.json").write_text(json.dumps(mine))
    (tmp_path / "foo.preview.png").touch()
    (tmp_path / "foobar.json").write_text("{")
    found = beside(tmp_path)
    assert found.title == "Ink – v2"
    assert found.description == "Best at 0.7 & below"
    assert found.triggers == ("my ink", "inkstyle", "line art")
    assert (found.base_model, found.weight, found.notes) == ("SD1", 0.7, "n")
    assert found.negative == "photo"
    assert found.claimed == ("ab" * 32, "0123456789ab")
    assert found.preview == str(tmp_path / "foo.preview.png")
    assert found.problems == ()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", "[" * 100_000, '{"a": 1e999', "\0", "x" * (MOST_BYTES + 1)],
)
@pytest.mark.parametrize("end", [".json", ".civitai.info", ".metadata.json", ".cm-info.json"])
def test_bad_notes_are_a_problem_in_words(tmp_path, text, end):
    (tmp_path / f"foo{end}").write_text(text)
    (problem,) = beside(tmp_path).problems
    assert f"foo{end}" in problem


@pytest.mark.parametrize("end", [".json", ".civitai.info", ".metadata.json", ".cm-info.json"])
def test_values_of_the_wrong_kind_are_left_out(tmp_path, end):
    keys = (
        "name baseModel trainedWords description model files notes tags civitai sha256 Hashes"
        " TrainedWords ModelName activation_text sd_version preferred_weight"
    )
    for value in (None, 1, [], {}, [1, None, {}], "x" * 10**5, {"tags": 1, "hashes": 2}, 10**400):
        found = {key.replace("_", " "): value for key in keys.split()}
        (tmp_path / f"foo{end}").write_text(json.dumps(found))
        assert beside(tmp_path).problems == ()


def test_half_a_character_does_no_harm(tmp_path, lora, library_of):
    lora(
        tmp_path / "m" / "foo.safetensors",
        {"ss_output_name": "\ud800", "modelspec.title": "\ud83d"},
    )
    (tmp_path / "m" / "foo.civitai.info").write_text(
        '{"name": "\\ud800", "trainedWords": ["\\udc00"]}'
    )
    library: Library = library_of(tmp_path / "m")
    assert [found.name for found in library.list()] == ["starter", "foo"]
    assert library.list()[1].facts == library_of(tmp_path / "m").list()[1].facts


def test_a_note_that_changes_is_read_again(tmp_path, lora, library_of):
    lora(tmp_path / "m" / "foo.safetensors")
    library = library_of(tmp_path / "m")
    assert library.look_up("foo").facts.triggers == ()
    (tmp_path / "m" / "foo.json").write_text('{"activation text": "ink"}')
    assert library.look_up("foo").facts.triggers == ("ink",)
    (tmp_path / "m" / "foo.json").write_text('{"activation text": "charcoal"}')
    assert library.look_up("foo").facts.triggers == ("charcoal",)
