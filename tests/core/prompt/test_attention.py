import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.prompt.cases import GOLDENS, TEXTS
from darkroom.core.prompt import Break, Piece, attention, render
from darkroom.core.prompt.attention import EXACT, merged

KNOWN = [case for case in GOLDENS["attention"] if "out" in case]


@pytest.mark.parametrize("case", KNOWN, ids=lambda case: repr(case["in"]))
def test_a1111_weighs_the_same(case):
    found = attention(case["in"])
    assert [piece.text for piece in found] == [text for text, _ in case["out"]]
    weights = [weight for _, weight in case["out"]]
    assert [piece.weight for piece in found] == pytest.approx(weights, rel=0, abs=1e-12)


@pytest.mark.parametrize("number", ["1.2.3", ".", "..5", "+.", "-", "1e2", "1,5", "1_000", "nan"])
def test_what_is_no_number_is_text(number):
    assert attention(f"(a:{number})") == (Piece(f"a:{number}", 1.1),)


def model(text):
    """The rules again, as slow as they are simple: each bracket multiplies all since it opened."""
    weights, texts, open_ = [], [], {"(": [], "[": []}

    def say(words, weight=1.0):
        texts.append(words)
        weights.append(weight)

    def multiply(start, factor):
        for place in range(start, len(weights)):
            weights[place] *= factor

    pattern = r"\\[()\[\]\\]|\\|[(\[]|:\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|[)\]]|[^\\()\[\]:]+|:"
    for found in re.finditer(pattern, text):
        token = found[0]
        if token[0] == "\\":
            say(token[1:])
        elif token in open_:
            open_[token].append(len(texts))
        elif found[1] and open_["("]:
            multiply(open_["("].pop(), float(found[1]))
        elif token == ")" and open_["("]:
            multiply(open_["("].pop(), 1.1)
        elif token == "]" and open_["["]:
            multiply(open_["["].pop(), 1 / 1.1)
        else:
            for place, words in enumerate(re.split(r"\s*\bBREAK\b\s*", token)):
                if place:
                    say("BREAK", -1)
                say(words)
    for start in open_["("]:
        multiply(start, 1.1)
    for start in open_["["]:
        multiply(start, 1 / 1.1)
    return merged(zip(texts, weights, strict=True)) or (Piece(""),)


@given(
    st.lists(
        st.sampled_from(
            [
                "(",
                ")",
                "[",
                "]",
                ":1.3)",
                ":",
                ":0)",
                ":-1)",
                ": .5 )",
                ":2\x1c)",
                ":\x85٣\u3000)",
                "a",
                " b ",
                " BREAK ",
                "\\",
                "\\(",
                "1.2",
                "\n",
            ]
        ),
        max_size=EXACT + 4,
    ).map("".join)
)
def test_every_bracket_multiplies_all_since_it_opened_to_the_last_bit(text):
    expected = model(text)
    found = merged(attention(text))
    if max(text.count("("), text.count("[")) <= EXACT // 2:
        assert found == expected
    else:
        assert math.prod(p.weight for p in found) == pytest.approx(
            math.prod(p.weight for p in expected)
        )


@given(TEXTS)
def test_no_text_fails_and_every_word_stays(text):
    found = attention(text)
    assert found
    assert all(math.isfinite(piece.weight) for piece in found)
    assert all(a.weight != b.weight or type(a) is not type(b) for a, b in pairwise(found))
    assert sum(piece.is_break for piece in found) <= text.count("BREAK")
    words = re.findall(r"[^\W\d_]{2,}", re.sub(r"\bBREAK\b", " ", text))
    told = "".join(piece.text for piece in found)
    assert all(word in told for word in words)


def test_deep_nesting_loses_no_more_than_rounding():
    for deep in (EXACT, EXACT + 1, 200):
        (piece,) = attention("(" * deep + "a" + ")" * deep)
        assert piece.weight == pytest.approx(1.1**deep, rel=1e-12)


def test_weights_stay_finite():
    (piece,) = attention("(" * 9000 + "a")
    assert math.isfinite(piece.weight)
    assert attention(f"(a:{'9' * 400})")[0].weight == pytest.approx(1.7976931348623157e308)


def test_a_break_in_brackets_is_a_break_and_keeps_the_weight():
    a, mark, b = attention("(a BREAK b:1.2)")
    assert (a.weight, b.weight, mark) == (1.2, 1.2, Break("BREAK", -1.2))
    assert mark.is_break
    assert not any(piece.is_break for piece in attention("BREA\\K BREAKING aBREAK (BREA\\K:-1)"))
    assert not Piece("BREAK", -1).is_break


@pytest.mark.parametrize(
    "text", ["(a BREAK b:-1)", "(a BREAK b:0)", "a (BREAK:-1) b", "a(BREAK:0)b"]
)
def test_a_break_is_a_break_at_any_weight(text):
    found = attention(text)
    assert [piece.text.strip() for piece in found if piece.text.strip()] == ["a", "BREAK", "b"]
    assert [piece.text for piece in found if piece.is_break] == ["BREAK"]


def test_two_breaks_stay_two():
    assert sum(piece.is_break for piece in attention("(a BREAK BREAK b:0)(BREAK:0)")) == 3


@given(
    st.lists(
        st.tuples(
            st.text().map(lambda text: text.replace("#", "")),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=5,
    )
)
def test_rendering_and_reading_are_inverse(pieces):
    pieces = [piece for piece in pieces if piece[0]]
    assert attention(render(pieces)) == (merged(pieces) or (Piece(""),))


@given(TEXTS)
def test_what_was_rendered_means_only_what_it_says(text):
    from darkroom.core.prompt import networks, parts, schedule, without_comments

    prompt = render([(text, 1.0)])
    assert without_comments(prompt) == prompt
    assert networks(prompt) == (prompt, ())
    (part,) = parts(prompt)
    assert part.weight == 1
    assert schedule(prompt, 7) == ((7, prompt),)
