from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.prompt.cases import GOLDENS, TEXTS
from darkroom.core.errors import BadRequest
from darkroom.core.prompt import (
    DIALECTS,
    attention,
    comfyui_pieces,
    from_comfyui,
    from_invokeai,
    parts,
)


@pytest.mark.parametrize("case", GOLDENS["comfy_token_weights"], ids=lambda case: repr(case["in"]))
def test_comfyui_weighs_the_same(case):
    found = comfyui_pieces(case["in"])
    assert [piece.text for piece in found] == [text for text, _ in case["out"]]
    assert [piece.weight for piece in found] == pytest.approx(
        [w for _, w in case["out"]], abs=1e-12
    )


def items(text):
    """ComfyUI's cutting of a text at its outermost brackets, character by character."""
    found, item, level = [], "", 0
    for char in text:
        if char == "(" and level == 0:
            found, item = [*found, item] if item else found, ""
        level += {"(": 1, ")": -1}.get(char, 0)
        item += char
        if char == ")" and level == 0:
            found, item = [*found, item], ""
    return [*found, item] if item else found


def model(text, weight=1.0):
    for item in items(text):
        if len(item) < 2 or item[0] != "(" or item[-1] != ")":
            yield item, weight
            continue
        inner, own = item[1:-1], weight * 1.1
        head, _, number = inner.rpartition(":")
        with suppress(ValueError):
            inner, own = (head, float(number)) if head else (inner, own)
        yield from model(inner, own)


@given(
    st.lists(
        st.sampled_from(["(", ")", ":", "a", " b", "1.2", ":1.3)", ":1e1)", ": 2 )"]), max_size=14
    ).map("".join)
)
def test_comfyui_reads_brackets_by_counting(text):
    assert comfyui_pieces(text) == tuple(model(text))


@given(TEXTS.filter(lambda text: "embedding:" not in text and "#" not in text))
def test_a_comfyui_prompt_of_ours_has_the_same_pieces(text):
    from darkroom.core.prompt.attention import merged

    pieces = merged(piece for piece in comfyui_pieces(text) if piece.text)
    assert attention(from_comfyui(text)) == (pieces or attention(""))


def test_what_comfyui_takes_for_words_are_words():
    prompt = from_comfyui("a (b:1.2) [x] AND BREAK <lora:a:1> 16:9 #f")
    assert attention(prompt)[2:] == ((" [x] AND BREAK <lora:a:1> 16:9 ＃f", 1.0),)
    assert len(parts(prompt)) == 1
    assert from_comfyui("embedding:a.pt, (embedding:b/c:1.2)") == "a, (b/c:1.2)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("picking apricots++, tree- x", "picking (apricots:1.21), (tree:0.9) x"),
        ("(a b)1.3 (c)--", "(a b:1.3) (c:0.81)"),
        ("(portrait (blue eyes)1.3)1.1", "(portrait (blue eyes:1.3):1.1)"),
        ("(plain) \\(x\\)", "plain \\(x\\)"),
        ("well-known -- c+d e", "well-known -- c+d e"),
        ("((a) b)", "a b"),
        ("((a", "\\(\\(a"),
        ("a) (b)+", "a\\) (b:1.1)"),
        ("<sks> [x] a AND b", "sks \\[x\\] a AN\\D b"),
        ('("a cat+", "a \\"dog\\"").and()', 'a (cat:1.1) BREAK a "dog"'),
        ('("a", "b").blend(3, 1)', "a :0.75 AND b :0.25"),
        ('("a", "b").blend()', "a :0.5 AND b :0.5"),
        ('("a", "b").blend(2, -1, no_normalize)', "a :2.0 AND b :-1.0"),
        ("", ""),
    ],
)
def test_invokeai(text, expected):
    assert from_invokeai(text) == expected


def test_invokeai_weights_multiply():
    found = attention(from_invokeai("(portrait (blue eyes)1.3)1.1"))
    assert [piece.weight for piece in found] == pytest.approx([1.1, 1.43])


@pytest.mark.parametrize(
    "text",
    [
        '("cat").swap("dog")', "a (cat).swap(dog)", 'x ("a", "b").and()', '("a", "b").and() y',
        '("a", "b").and(1, 2)', '("a", "b").blend(1)', '("a", "b").blend(1, -1)',
        '("a", "b").blend(x, y)', '("a" "b").blend(1, 1)', "(a).and()",
    ],
)  # fmt: skip
def test_what_invokeai_alone_has_is_refused_with_a_cure(text):
    with pytest.raises(BadRequest) as error:
        from_invokeai(text)
    assert error.value.hint


@given(TEXTS, st.sampled_from(sorted(DIALECTS)))
def test_any_text_is_read_or_refused(text, dialect):
    try:
        prompt = DIALECTS[dialect](text)
    except BadRequest:
        assert dialect == "invokeai"
    else:
        assert attention(prompt)
