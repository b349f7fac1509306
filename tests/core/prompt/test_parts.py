import re
import unicodedata

import pytest
from hypothesis import given

from core.prompt.cases import GOLDENS, TEXTS
from darkroom.core.prompt import Network, networks, parts, without_comments


@pytest.mark.parametrize("case", GOLDENS["multicond"], ids=lambda case: repr(case["prompts"]))
def test_a1111_composes_the_same(case):
    flat = case["out"]["flat"]
    for prompt, indexes in zip(case["prompts"], case["out"]["indexes"], strict=True):
        assert list(parts(prompt)) == [(flat[index], weight) for index, weight in indexes]


@pytest.mark.parametrize("case", GOLDENS["extra_networks"], ids=lambda case: repr(case["in"]))
def test_a1111_finds_the_same_networks(case):
    text, found = networks(case["in"])
    assert text == case["out"]["prompt"]
    expected = [
        (kind, item["items"], item["positional"], item["named"])
        for kind, items in case["out"]["networks"].items()
        for item in items
    ]
    assert [(n.kind, list(n.items), list(n.positional), n.named) for n in found] == expected


@pytest.mark.parametrize("case", GOLDENS["comments"], ids=lambda case: repr(case["in"]))
def test_a1111_cuts_the_same_comments(case):
    assert without_comments(case["in"]) == case["out"]


@pytest.mark.parametrize(
    ("text", "weight"),
    [("a :-0.5", -0.5), ("a:+2.", 2), ("a:.5", 0.5), ("a:١", 1), ("a: 3 \n", 3)],
)
def test_a_part_ends_in_its_weight(text, weight):
    assert parts(f"x AND {text}") == (("x", 1), (" a", weight))


def test_numbers_may_have_any_white_space_around_them_and_any_digits():
    from darkroom.core.prompt import attention, schedule
    from darkroom.core.prompt.wildcards import weighted

    for char in map(chr, range(0x110000)):
        if re.match(r"\s", char):
            assert attention(f"(a:{char}1.5{char})") == (("a", 1.5),)
            assert parts(f"a{char}:{char}2{char}") == (("a", 2),)
            assert schedule(f"[a:b:{char}5{char}]", 9) == ((5, "a"), (9, "b"))
            assert weighted(f"{char}2::a") == ("a", 2)
        elif re.match(r"\d", char):
            value = unicodedata.decimal(char)
            assert attention(f"(a:{char}.5)") == (("a", value + 0.5),)
            assert parts(f"a:{char}") == (("a", value),)
            assert weighted(f"{char}::a") == ("a", value)


@pytest.mark.parametrize("text", ["a:1.2.3", "a:.", "a:", "a:1e2", f"a:{'9' * 400}", "a:1 b"])
def test_what_is_no_weight_is_text(text):
    assert parts(text) == ((text, 1.0),)


def test_a_network_tells_its_items_apart():
    text, (lora, hyper) = networks("x <lora:detail:0.8:0.5:dyn=4> y<hypernet:h>")
    assert text == "x  y"
    assert (lora.name, lora.positional, lora.named) == (
        "detail",
        ("detail", "0.8", "0.5"),
        {"dyn": "4"},
    )
    assert hyper == Network("hypernet", ("h",))
    assert Network("lora", ("te=1",)).name == ""


@pytest.mark.parametrize("text", ["<lora:>", "<lora:x", "< lora:x>", "<lora>", "a < b > c", "<:x>"])
def test_what_is_no_tag_is_text(text):
    assert networks(text) == (text, ())


def test_comments_end_with_their_line():
    assert without_comments("color #ff0000, red") == "color \n"
    assert without_comments("a #x\n#y\nb") == "a \nb"
    assert without_comments("a\n#x\nb\n#y\nc") == "a\nb\nc"


@given(TEXTS)
def test_cutting_twice_is_cutting_once(text):
    without = without_comments(text)
    assert "#" not in without
    assert without_comments(without) == without


@given(TEXTS)
def test_any_text_has_parts_and_networks(text):
    assert len(parts(text)) >= 1
    rest, found = networks(text)
    assert len(rest) <= len(text)
    assert all(network.kind and network.items for network in found)
