import io
import json
import tarfile
import time
import zipfile

import pytest
from PIL import Image

from darkroom.core.errors import BadFile, BadRequest, TooLarge, UnknownName
from darkroom.core.series import BatchRequest
from darkroom.media import archives as packed
from darkroom.media.archives import Archives, is_safe
from darkroom.media.listing import brought, listed, prompt_of, said_by


@pytest.fixture
def archives():
    opened = Archives()
    yield opened
    opened.close()


@pytest.fixture
def find(archives):
    """The items of inputs, for a request that upscales them or `base`."""

    def run(*inputs, base=None, but=None, **fields):
        base = base or {"kind": "upscale", "image": "each"}
        asked = BatchRequest.parse({"base": base, "inputs": list(map(str, inputs)), **fields})
        return listed(asked, archives, but=but)

    return run


PROMPTS = {"kind": "image", "prompt": "p"}
IMG2IMG = {"kind": "image", "prompt": "p", "init": {"image": "each"}}


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(listing):
    return [item.name for item in listing.items]


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_folder_in_the_order_in_which_people_count(find, tmp_path):
    touch(tmp_path, "a10.png", "a2.JPG", "a1.webp", "note.txt", ".hidden.png", "deep/b.png")
    listing = find(tmp_path)
    assert names(listing) == ["a1", "a2", "a10"]
    assert "1 folders that are not looked into" in listing.notes[0]
    deep = find(tmp_path, recursive=True)
    assert names(deep) == ["a1", "a2", "a10", "deep/b"]
    assert names(find(tmp_path, recursive=True, but=tmp_path / "deep")) == ["a1", "a2", "a10"]


def test_patterns_and_single_files(find, tmp_path):
    touch(tmp_path, "x/a.png", "x/b.jpg", "y/a.png", "y/note.txt")
    assert names(find(tmp_path / "*" / "a.png")) == ["x/a", "y/a"]
    assert names(find(tmp_path / "**" / "*.jpg")) == ["x/b"]
    assert names(find(tmp_path / "x" / "a.png", tmp_path / "y" / "a.png")) == ["a", "a-png"]
    with pytest.raises(BadFile, match="no file matches"):
        find(tmp_path / "*.bmp")
    with pytest.raises(BadFile, match="there is no file"):
        find(tmp_path / "none.png")
    with pytest.raises(BadRequest, match="nothing to do"):
        find(touch(tmp_path / "empty", "note.md"))


def test_no_two_results_share_a_name_in_whatever_case(find, tmp_path):
    touch(tmp_path / "p", "cat.jpg", "cat.png")
    touch(tmp_path / "q", "CAT.png", "cat-png.png")
    found = names(find(tmp_path / "p", tmp_path / "q"))
    assert len({name.casefold() for name in found}) == 4


def test_ten_thousand_rows_for_one_picture_are_named_within_a_second(find, tmp_path):
    touch(tmp_path, "a.png")
    rows = [{"image": "a.png", "prompt": f"cat {number}"} for number in range(10_000)]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    began = time.process_time()
    items = find(tmp_path / "t.json", base=IMG2IMG).items
    assert time.process_time() - began < 1
    assert [item.name for item in items[:3]] == ["a", "a-2", "a-3"]
    assert len({item.key for item in items}) == 10_000


def test_archives_of_both_kinds(find, tmp_path, archives):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("in/cat.png", png())
        file.writestr("in/cat.txt", "a cat")
        file.writestr("../evil.png", png())
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as file:
        for name in ("dog.png", "/etc/evil.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png())
            file.addfile(info, io.BytesIO(png()))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    listing = find(tmp_path / "a.zip", tmp_path / "b.tar.gz", base=IMG2IMG, prompt_from="text")
    assert names(listing) == ["in/cat", "dog"]
    cat, dog = listing.items
    path = brought(cat.picture, archives, tmp_path / "new")
    assert path.parent == tmp_path / "new"
    assert path.read_bytes() == png()
    asked = BatchRequest.parse({"base": IMG2IMG, "inputs": ["x"], "prompt_from": "text"})
    assert said_by(cat, asked, archives, picture=path) == {"prompt": "a cat"}
    with pytest.raises(BadFile, match="no text beside"):
        said_by(dog, asked, archives, picture=path)


def test_names_that_leave_their_folder_are_not_safe():
    assert is_safe("a/b.png")
    for name in ("../a", "/a", "a/../../b", "C:/a", "..\\a", "C:\\a", ""):
        assert not is_safe(name)


def test_archives_that_are_damaged_or_endless_are_refused(find, tmp_path, archives, monkeypatch):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(BadFile, match="damaged, or no archive"):
        find(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(100_000))
    monkeypatch.setattr(packed, "MOST_BYTES", 1000)
    with pytest.raises(TooLarge, match="larger than any picture"):
        archives.read(tmp_path / "b.zip", "a.png")
    monkeypatch.setattr(packed, "MOST_IN_ALL", 1000)
    with pytest.raises(TooLarge, match="holds 1 files"):
        find(tmp_path / "b.zip")


def test_tables_of_all_kinds_give_the_same(find, tmp_path):
    rows = [{"name": "one", "prompt": "a, b", "steps": 5}, {"prompt": "c", "CFG Scale": 3}]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "t.csv").write_text('name,prompt,steps,CFG Scale\none,"a, b",5,\n,c,,3\n', "utf-8")
    (tmp_path / "t.tsv").write_text("name\tprompt\tsteps\tCFG Scale\none\ta, b\t5\n\tc\t\t3\n")
    for kind in ("json", "jsonl", "csv", "tsv"):
        first, second = find(tmp_path / f"t.{kind}", base=PROMPTS).items
        assert (first.name, first.fields["prompt"]) == ("one", "a, b")
        assert str(first.fields["steps"]) == "5"
        assert second.name.startswith("t-0000")
        assert set(second.fields) == {"prompt", "cfg_scale"}


def test_tables_as_other_programs_write_them(find, tmp_path):
    bom, crlf = b"\xef\xbb\xbf", b"\r\n"
    lines = [b"prompt;steps;", b'"a; b";3;', "ein K\u00e4fer;4;".encode()]
    for head in (bom, b"sep=;" + crlf):
        (tmp_path / "t.csv").write_bytes(head + crlf.join(lines))
        items = find(tmp_path / "t.csv", base=PROMPTS).items
        assert [item.fields for item in items] == [
            {"prompt": "a; b", "steps": "3"},
            {"prompt": "ein K\u00e4fer", "steps": "4"},
        ]
    (tmp_path / "t.csv").write_text("prompt,,\na,,\n")  # columns that are empty and unnamed
    assert len(find(tmp_path / "t.csv", base=PROMPTS).items) == 1
    odd = "one\u2028two\x85three"  # which are line breaks for str.splitlines
    (tmp_path / "t.jsonl").write_text(json.dumps({"prompt": odd}, ensure_ascii=False), "utf-8")
    (tmp_path / "t.txt").write_text(odd, "utf-8")
    for name in ("t.jsonl", "t.txt"):
        (item,) = find(tmp_path / name, base=PROMPTS).items
        assert item.fields["prompt"] == odd


def test_pictures_in_tables_lie_beside_them(find, tmp_path):
    touch(tmp_path, "pics/a.png", "pics/a.txt", "m.png")
    (tmp_path / "t.csv").write_text("image;mask\npics/a.png;m.png\n")
    (item,) = find(tmp_path / "t.csv", base=PROMPTS).items
    assert item.picture.path == tmp_path / "pics/a.png"
    assert item.mask.path == tmp_path / "m.png"
    assert item.text.path == tmp_path / "pics/a.txt"
    assert item.name == "a"


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("t.csv", "prompt,stepz\na,1\n", "unknown column 'stepz'"),
        ("t.csv", "prompt,steps\na,b,c\n", "3 cells in line 2"),
        ("t.csv", "prompt,prompt\na,b\n", "two columns of one name"),
        ("t.json", "{", "is no JSON"),
        ("t.json", '{"prompt": "a"}', "is no list"),
        ("t.jsonl", '{"prompt": "a"}\n[]', "line 2 of .* is no object"),
        ("t.txt", "\xff\xfe\xfa", "nothing to do|UTF-8|cannot"),
    ],
)
def test_tables_that_cannot_be_read_are_refused_in_words(find, tmp_path, name, content, error):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises((BadFile, UnknownName, BadRequest), match=error):
        find(tmp_path / name, base=PROMPTS)


def test_names_in_tables_stay_in_the_folder_of_the_results(find, tmp_path):
    rows = [{"name": name, "prompt": "p"} for name in ("../../a", "/etc/x", "b:c*?", "d/e", "..")]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    assert names(find(tmp_path / "t.json", base=PROMPTS)) == [
        "a",
        "etc/x",
        "b_c__",
        "d/e",
        "unnamed",
    ]


def test_lists_of_prompts(find, tmp_path):
    (tmp_path / "p.txt").write_text('a cat\n\n--prompt "a dog" --steps 9\n--stepz 1\n')
    items = find(tmp_path / "p.txt", base=PROMPTS).items
    assert [item.fields.get("prompt") for item in items] == ["a cat", "a dog", None]
    assert items[1].fields["steps"] == "9"
    assert "unknown setting '--stepz'" in items[2].problem
    assert items[2].told == "p.txt line 4"


def test_masks_by_name_or_one_for_all(find, tmp_path):
    touch(tmp_path, "in/a.png", "in/b.jpg", "masks/a.jpg", "one.png")
    first, second = find(tmp_path / "in", base=IMG2IMG, masks=str(tmp_path / "masks")).items
    assert first.mask.path.name == "a.jpg"
    assert "no mask for b.jpg" in second.problem
    one = find(tmp_path / "in", base=IMG2IMG, masks=str(tmp_path / "one.png")).items
    assert {item.mask.path.name for item in one} == {"one.png"}


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("0001_a_red_apple", "a red apple"),
        ("deep/12-34 a cat (2)", "a cat"),
        ("an apple 3", "an apple"),
        ("3d render", "3d render"),
        ("007", ""),
    ],
)
def test_prompts_in_names(name, prompt):
    assert prompt_of(name) == prompt


def test_pictures_that_nobody_looks_at_are_refused(find, tmp_path):
    touch(tmp_path, "a.png")
    with pytest.raises(BadRequest, match="does nothing with the pictures"):
        find(tmp_path, base=PROMPTS)
    assert names(find(tmp_path, base=PROMPTS, prompt_from="name")) == ["a"]


def test_ten_thousand_files_are_listed_within_a_second(find, tmp_path):
    touch(tmp_path, *(f"picture {number}.png" for number in range(10_000)))
    began = time.process_time()
    assert len(find(tmp_path).items) == 10_000
    assert time.process_time() - began < 1
