import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.prompt.cases import TEXTS
from darkroom.core.errors import BadFile, BadRequest
from darkroom.core.prompt import Expanded, Wildcards, expand, wildcard_names

FILES = Wildcards(
    {
        "colours/warm": "# warm ones\nred\n\n3::orange\n",
        "colours/cold": "blue\n",
        "animal": "{big |}dog\n  cat  \n",
        "pair": "__animal__ and __animal__",
        "empty": "# nothing\n",
        "loop": "x __pool__",
        "pool": "__loop__",
    }
)


def outcomes(template, count=300):
    return {expand(template, seed, FILES).text for seed in range(count)}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a {b|c}", {"a b", "a c"}),
        ("{|b}", {"", "b"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{0::a|b}", {"b"}),
        ("{2$$a|b|c}", {"a, b", "a, c", "b, a", "b, c", "c, a", "c, b"}),
        ("{1-2$$ and $$a|b}", {"a", "b", "a and b", "b and a"}),
        ("{-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-$$a|b}", {"a, b", "b, a"}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("{0-1$$a|b}", {"", "a", "b"}),
        ("__colours/*__", {"red", "orange", "blue"}),
        ("__colours/c?ld__", {"blue"}),
        ("{2$$_$$__colours/warm__}", {"red_orange", "orange_red"}),
        ("__animal__", {"dog", "big dog", "cat"}),
        ("[a|{b|c}]", {"[a|b]", "[a|c]"}),
    ],
)
def test_all_outcomes_and_no_others(template, expected):
    assert outcomes(template) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{a}",
        "{{a}}",
        "{",
        "}",
        "}{",
        "{a|b",
        "a|b}",
        "\\{a|b\\}",
        "{$$a}",
        "____",
        "__ a__",
        "a_b__c",
        "{}",
        "{2::a}",
    ],
)
def test_what_is_no_choice_stays_as_it_is(text):
    assert expand(text, 1, FILES) == Expanded(template=text, text=text, unknown=())


def test_weights_are_shares():
    found = Counter(expand("{3::a|b}", seed).text for seed in range(4000))
    assert found["a"] / 4000 == pytest.approx(0.75, abs=0.03)
    lines = Counter(expand("__colours/warm__", seed, FILES).text for seed in range(4000))
    assert lines["orange"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_the_choice_is_the_same_for_ever():
    template = "{a|b|c|d|e|f|g|h} {2$$ + $$a|b|c|d} __colours/*__ __animal__"
    assert [expand(template, seed, FILES).text for seed in (0, 1, 2**64 - 1)] == [
        "g d + b red cat", "b d + c red big dog", "a b + a orange cat",
    ]  # fmt: skip


def test_names_that_no_file_has_stay_and_are_told_once():
    found = expand("__nope__ __empty__ {__nope__|__nope__} __animal__", 3, FILES)
    assert found.unknown == ("nope", "empty")
    assert found.text.startswith("__nope__ __empty__ __nope__ ")
    assert wildcard_names("__a/b__ __c*__ __a/b__ __no\\_") == ("a/b", "c*")


def test_whether_a_name_has_files_is_known_without_reading_them(tmp_path):
    files = Wildcards({"a/b": tmp_path / "is not there.txt"})
    assert "a/b" in files
    assert "a/*" in files
    assert "b" not in files


def test_a_wildcard_in_itself_is_refused_with_the_way_there():
    with pytest.raises(BadRequest, match="__loop__ in __pool__ in __loop__"):
        expand("__loop__", 0, FILES)
    assert expand("__pair__ __pair__", 0, FILES).text.count(" and ") == 2


def test_what_never_ends_is_refused():
    doubling = {f"w{place}": f"__w{place + 1}__ __w{place + 1}__" for place in range(40)}
    with pytest.raises(BadRequest, match="never come to an end"):
        expand("__w0__", 0, Wildcards({**doubling, "w40": "{|}"}))
    with pytest.raises(BadRequest, match="never come to an end"):
        expand("__w0__", 0, Wildcards({**doubling, "w40": "x" * 10_000}))


@given(TEXTS, st.integers(0, 2**64 - 1))
def test_any_text_expands_the_same_way_twice(text, seed):
    assert expand(text, seed) == expand(text, seed)


@given(TEXTS.filter(lambda text: "{" not in text))
def test_without_braces_and_files_nothing_changes(text):
    assert expand(text, 0).text == text


def test_folders(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "secret.txt"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "a" / "b" / "c.txt").write_bytes("\ufeffcafé\r\n#x\r\n".encode())
    (inside / "latin.txt").write_bytes(b"\xe9t\xe9")
    (inside / "notes.md").write_text("no")
    outside.write_text("secret")
    if os.name != "nt":
        (inside / "link.txt").symlink_to(outside)
    found = Wildcards.of([inside])
    assert expand("__a/b/c__", 0, found).text == "café"
    assert expand("__latin__", 0, found).text == "\ufffdt\ufffd"
    for name in ("../secret", "a/../../secret", str(outside.with_suffix("")), "notes", "link", "a"):
        assert expand(f"__{name}__", 0, found).unknown == (name,)
    with pytest.raises(BadFile, match="is no folder"):
        Wildcards.of([outside])


def test_the_first_folder_counts_and_a_file_can_be_too_large(tmp_path):
    for name, text in (("one", "1"), ("two", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "n.txt").write_text(text)
    assert expand("__n__", 0, Wildcards.of([tmp_path / "two", tmp_path / "one"])).text == "2"
    with (tmp_path / "one" / "big.txt").open("wb") as file:
        file.truncate((16 << 20) + 1)
    found = Wildcards.of([tmp_path / "one"])
    with pytest.raises(BadFile, match="too large"):
        expand("__big__", 0, found)
    (tmp_path / "one" / "n.txt").unlink()
    with pytest.raises(BadFile, match="cannot be read"):
        expand("__n__", 0, found)
