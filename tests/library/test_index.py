import hashlib
import multiprocessing
import os
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest

from darkroom.core.errors import BadFile, UnknownName
from darkroom.core.model import Kind
from darkroom.library import catalogue, index
from darkroom.library.facts import Facts
from darkroom.library.hashes import Hashes, hashes_of
from darkroom.library.index import Index
from darkroom.library.listing import Wanted
from darkroom.library.models import Library


@pytest.fixture
def models(tmp_path, lora):
    top = tmp_path / "models"
    for name in ("ink", "set/chalk", "Lora/oil"):
        lora(
            top / f"{name}.safetensors",
            {"ss_output_name": f"trained {name}"},
            fill=name[:1].encode(),
        )
    return top


def names(library, **wanted):
    return [found.name for found in library.list(Wanted(**wanted))]


def test_files_are_learnt_about_once(models, library_of, monkeypatch):
    assert names(library_of(models), kind=Kind.LORA) == ["ink", "oil", "set/chalk"]
    monkeypatch.setattr(catalogue, "examine", None)
    assert names(library_of(models), kind=Kind.LORA) == ["ink", "oil", "set/chalk"]


def test_what_is_added_removed_or_changed_shows(models, library_of, lora):
    library = library_of(models)
    names(library)
    lora(models / "set" / "new.safetensors")
    (models / "ink.safetensors").unlink()
    assert names(library, kind=Kind.LORA) == ["oil", "set/chalk", "set/new"]
    lora(models / "set" / "chalk.safetensors", {"modelspec.title": "White chalk on black"})
    assert library.look_up("set/chalk").facts.title == "White chalk on black"
    assert library.page(Wanted(words=("ink",))).total == 0
    shutil.rmtree(models / "set")
    assert names(library, kind=Kind.LORA) == ["oil"]


def test_an_interrupted_look_keeps_what_it_learnt(models, library_of, monkeypatch):
    looking = library_of(models).learn()
    assert next(looking) == (1, 4)
    next(looking)
    looking.close()
    assert next(library_of(models).learn()) == (1, 2)


def test_search_and_pages(models, library_of):
    library = library_of(models)
    assert names(library, words=("chalk",)) == ["set/chalk"]
    assert names(library, words=("TRAIN", "hal")) == ["set/chalk"]
    assert names(library, words=("100%",)) == names(library, words=("_",), kind=Kind.VAE) == []
    page = library.page(first=1, most=2)
    assert page.total == 4
    assert [found.name for found in page.items] == ["ink", "oil"]
    assert library.page(first=9, most=2).items == ()


def test_a_lora_is_found_by_every_name_of_it(models, library_of):
    library = library_of(models)
    path = models / "set" / "chalk.safetensors"
    raw = path.read_bytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    data = 8 + int.from_bytes(raw[:8], "little")
    autov3 = hashlib.sha256(raw[data:]).hexdigest()[:12]
    called = ("set/chalk", "SET\\Chalk", "chalk", "chalk.safetensors", "trained set/chalk")
    for name in (*called, sha256, sha256[:10], autov3):
        card = library.find_of(Kind.LORA, name)
        assert card.path == str(path)
        assert (card.sha256, card.autov3, card.kind) == (sha256, autov3, Kind.LORA)
    assert library.find_of(Kind.LORA, "oil").path == str(models / "Lora" / "oil.safetensors")
    with pytest.raises(UnknownName) as caught:
        library.find_of(Kind.LORA, "inc")
    assert caught.value.nearest == ["ink"]
    with pytest.raises(BadFile, match="is a LoRA for SD1, not of the kind vae"):
        library.find_of(Kind.VAE, "ink")


def test_the_old_hash_finds_a_file_too(tmp_path, lora, library_of):
    path = lora(tmp_path / "m" / "big.safetensors", {"notes": "x" * (1 << 20)})
    legacy = hashes_of(path).legacy
    assert library_of(tmp_path / "m").find_of(Kind.LORA, legacy).path == str(path)


def test_the_old_hash_of_short_files_is_none(tmp_path, lora, library_of):
    """It is that of nothing, for all of them."""
    path = lora(tmp_path / "m" / "small.safetensors")
    assert hashes_of(path).legacy == ""
    with pytest.raises(UnknownName):
        library_of(tmp_path / "m").find_of(Kind.LORA, "e3b0c442")


def test_old_hashes_of_nothing_are_forgotten(tmp_path):
    Index(tmp_path / "book").keep_hashes("/m", 1, 2, hashes=Hashes("a" * 64, "b" * 12, "e3b0c442"))
    with closing(sqlite3.connect(tmp_path / "book")) as db:
        db.execute(f"pragma user_version = {len(index.MIGRATIONS) - 1}")
    assert Index(tmp_path / "book").hashes("/m", 1, 2) == Hashes("a" * 64, "b" * 12, "")


def test_a_diffusers_folder_is_one_model(tmp_path, library_of):
    cache = tmp_path / "hub" / "models--some--thing" / "snapshots" / ("0a" * 20)
    (cache / "unet").mkdir(parents=True)
    (cache / "model_index.json").write_text("{}")
    (cache / "unet" / "diffusion_pytorch_model.safetensors").touch()
    vae = tmp_path / "hub" / "vae"
    vae.mkdir()
    (vae / "config.json").write_text("{}")
    (vae / "diffusion_pytorch_model.bin").touch()
    (vae / "other.safetensors").touch()
    (tmp_path / "hub" / ".hidden.safetensors").touch()
    (tmp_path / "hub" / "half.safetensors.part").touch()
    found = {found.name: found.path for found in library_of(tmp_path / "hub").list()[1:]}
    assert found == {"some/thing": cache, "vae": vae, "other": vae / "other.safetensors"}


def test_of_a_damaged_table_nothing_is_lost_but_time(models, tmp_path, library_of):
    for damage in (b"no table" * 500, None):
        database = tmp_path / "library.sqlite"
        if damage is None:  # pages within it
            with database.open("r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * 16384)
        else:
            database.write_bytes(damage)
        names(library_of(models))
        assert names(library_of(models), kind=Kind.LORA) == ["ink", "oil", "set/chalk"]
        assert database.with_name("library.sqlite.damaged").exists()


def test_a_locked_table_is_done_without(models, tmp_path, monkeypatch):
    monkeypatch.setattr("darkroom.library.index.WAIT_S", 0.05)
    Library((models,), Index(tmp_path / "library.sqlite")).list()
    holder = sqlite3.connect(tmp_path / "library.sqlite", isolation_level=None)
    holder.execute("begin exclusive")
    library = Library((models, tmp_path / "more"), Index(tmp_path / "library.sqlite"))
    assert "ink" in names(library)
    assert len(library.find_of(Kind.LORA, "ink").sha256) == 64
    holder.close()


@pytest.mark.skipif(os.name == "nt", reason="rights")
def test_a_table_that_may_only_be_read_is_read(models, tmp_path, monkeypatch):
    place = tmp_path / "data"
    Library((models,), Index(place / "library.sqlite")).list()
    monkeypatch.setattr("darkroom.library.index._connect", _refusing(sqlite3.connect))
    monkeypatch.setattr(catalogue, "examine", None)
    library = Library((models,), Index(place / "library.sqlite"))
    assert names(library, kind=Kind.LORA) == ["ink", "oil", "set/chalk"]


def _refusing(connect):
    def open_it(name, *, uri=False):
        if not uri and name != ":memory:":
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return connect(name, uri=uri, isolation_level=None, check_same_thread=False)

    return open_it


def test_hashes_of_the_old_table_are_taken_over(tmp_path):
    db = sqlite3.connect(tmp_path / "library.sqlite")
    db.execute("create table file_hash (path blob primary key, size, mtime_ns, sha256 text)")
    db.execute("insert into file_hash values (?, 5, 7, ?)", (b"/m/a.safetensors", "ab" * 32))
    db.commit()
    db.close()
    assert Index(tmp_path / "library.sqlite").hashes("/m/a.safetensors", 5, 7).sha256 == "ab" * 32


def _learn(models, database):
    for _ in range(5):
        Library((models,), Index(database)).list()
        Index(database).keep_facts([(str(models / f"{os.getpid()}"), "s", "w", Facts())])


def test_several_processes_share_one_table(models, tmp_path):
    context = multiprocessing.get_context("spawn")
    given = (models, tmp_path / "library.sqlite")
    both = [context.Process(target=_learn, args=given) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(Index(given[1]).briefs()) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there")
def test_hostile_names(tmp_path, lora, library_of):
    top = tmp_path / "m"
    top.mkdir()
    for name in (
        b"a\nb",
        b"\xff\xfe",
        b"x" * 240,
        b"%s\x1b[31m",
        "ü".encode(),
        b"'; drop table file",
    ):
        lora(top / os.fsdecode(name + b".safetensors"))
    library = library_of(top)
    library.list()
    found = library.list(Wanted(kind=Kind.LORA))
    assert len({each.name for each in found}) == 6
    for each in found:
        each.name.encode()
        assert library.look_up(each.name, Kind.LORA).path == each.path
    for name in ("", "\0", "\ud83d", "..", "/" * 5000, "a" * 10**5):
        with pytest.raises(UnknownName):
            library.find_of(Kind.LORA, name)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_one_file_in_two_places_is_hashed_once(models, library_of, monkeypatch):
    (models / "again.safetensors").symlink_to(models / "ink.safetensors")
    library = library_of(models)
    library.find_of(Kind.LORA, "ink")
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert library.find_of(Kind.LORA, "again").autov3


def test_everything_is_hashed_in_the_background_once(models, library_of):
    library = library_of(models)
    assert [left for _, left in library.hash_all(Wanted(kind=Kind.LORA))] == [2, 1, 0]
    assert list(library.hash_all(Wanted(kind=Kind.LORA))) == []


def test_facts_survive_the_index():
    facts = Facts(
        kind=Kind.LORA, triggers=("a",), weight=0.7, recommended={"steps": 4}, title="\ud800"
    )
    assert Facts.of_json(facts.to_json()) == facts
    assert Facts.of_json('{"new": 1}') is None
    assert Facts.of_json('{"kind": "spoon"}') is None
    assert Facts.of_json("[]") is None


def test_a_file_that_was_still_being_copied_shows_when_it_is_whole(models, library_of, lora):
    path = models / "set" / "slow.safetensors"
    whole = lora(path, {"ss_output_name": "slow hand"}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    library = library_of(models)
    assert "set/slow" not in names(library, kind=Kind.LORA)
    path.write_bytes(whole)  # the folder's own time stays
    assert "set/slow" in names(library, kind=Kind.LORA)
    assert library.find_of(Kind.LORA, "slow hand").path == str(path)


def test_notes_that_come_later_are_searched(models, library_of):
    library = library_of(models)
    assert names(library, words=("zebra",)) == []
    note = models / "ink.json"
    note.write_text('{"activation text": "zebra"}')
    assert names(library, words=("zebra",)) == ["ink"]
    note.write_text('{"activation text": "a gnu"}')
    assert names(library, words=("gnu",)) == ["ink"]
    note.unlink()
    assert names(library, words=("gnu",)) == []


def test_what_another_version_learnt_is_learnt_anew(models, library_of, monkeypatch):
    library_of(models).list()
    assert list(library_of(models).learn()) == []
    monkeypatch.setattr(catalogue, "_LEARNT_BY", "later")
    assert list(library_of(models).learn())[-1] == (4, 4)


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are no files there")
@pytest.mark.timeout(20)
def test_what_never_ends_is_never_opened(models, library_of):
    for name in ("pipe.safetensors", "ink.json", "ink.yaml", "paths.yaml"):
        os.mkfifo(models / name)
    (models / "endless.ckpt").symlink_to("/dev/zero")
    library = library_of(models, models / "paths.yaml")
    found = {each.name: each for each in library.list()}
    for name in ("pipe", "endless"):
        assert "not a regular file" in found[name].problem
        with pytest.raises(BadFile, match="not a regular file"):
            library.hash_anew(found[name])
    assert "ink.json beside it cannot be read" in found["ink"].facts.problems[0]
    assert "not a regular file" in found[str(models / "paths.yaml")].problem
    with pytest.raises(UnknownName):
        library.find_of(Kind.LORA, "0123abcd")  # the old hash asks every file
