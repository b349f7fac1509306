"""Prompts to chunks of 75 tokens, as A1111 makes them; no torch."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.core.errors import BadRequest
from darkroom.core.prompt import Piece, attention
from darkroom.engine.chunks import BREAK, Token, Words, runs, split
from darkroom.engine.tokenizer import COMMA, Tokenizer

CAT, A, B = 2368, 320, 321
CASES = json.loads(Path(__file__).parents[1].joinpath("goldens/prompts.json").read_text())["chunks"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer()


def unrolled(rle):
    return [value for count, value in rle for _ in range(count)]


@pytest.mark.parametrize("case", CASES, ids=[case["prompt"][:40] for case in CASES])
def test_chunks_are_a1111s(tokenizer, case):
    words = Words(tokenizer, {name: [()] * count for name, count in case["embeddings"].items()})
    prompt = case["prompt"]
    pieces = [Piece(prompt)] if case["emphasis"] == "None" else attention(prompt)
    chunks, count = split(runs(tokenizer, pieces, words), case["comma_padding_backtrack"])
    if prompt == "(a BREAK b:1.2)":  # A1111 takes it for a word of weight -1.2; here it is a break
        assert [[token.id for token in chunk.tokens] for chunk in chunks] == [[A], [B]]
        return
    assert [chunk.ids for chunk in chunks] == [unrolled(c["tokens_rle"]) for c in case["chunks"]]
    weights = [unrolled(c["multipliers_rle"]) for c in case["chunks"]]
    assert [chunk.weights for chunk in chunks] == [pytest.approx(row, abs=1e-9) for row in weights]
    assert count == case["token_count"]


def test_an_embedding_is_found_in_any_spelling_and_takes_the_weight_around_it(tokenizer):
    words = Words(tokenizer, {"Easy-Negative": [()] * 2})
    made = runs(tokenizer, attention("a (easy-negative:1.3)"), words)
    assert made == [(Token(A),), (Token(0, 1.3), Token(0, 1.3))]


def test_a_word_that_only_begins_like_an_embedding_is_a_word(tokenizer):
    words = Words(tokenizer, {"cat dog": [()]})
    assert runs(tokenizer, attention("cat"), words) == [(Token(CAT),)]


def test_a_name_without_tokens_stands_for_nothing(tokenizer):
    assert runs(tokenizer, [Piece("cat")], Words(tokenizer, {" ": [()]})) == [(Token(CAT),)]


def a1111(items, backtrack):
    """The loop of A1111's `tokenize_line`, over (id, length): length > 1 is an embedding."""
    chunks, chunk, last_comma, total = [], [], -1, 0

    def next_chunk(last=False):
        nonlocal chunk, last_comma, total
        total += len(chunk) if last else 75
        chunks.append(chunk)
        chunk, last_comma = [], -1

    for index, length in items:
        if index is None:
            next_chunk()
            continue
        if index == COMMA:
            last_comma = len(chunk)
        elif (
            backtrack != 0
            and len(chunk) == 75
            and last_comma != -1
            and len(chunk) - last_comma <= backtrack
        ):
            moved, chunk = chunk[last_comma + 1 :], chunk[: last_comma + 1]
            next_chunk()
            chunk = moved
        if len(chunk) == 75 or len(chunk) + length > 75:
            next_chunk()
        chunk = chunk + [index] * length
    if chunk or not chunks:
        next_chunk(last=True)
    return chunks, total


items = st.one_of(
    *[st.tuples(st.sampled_from([CAT, A, B]), st.just(1))] * 4,
    st.just((COMMA, 1)),
    st.just((None, 0)),
    st.tuples(st.just(7), st.sampled_from([2, 5, 30, 75])),
)
cats = st.integers(1, 160).map(lambda n: [(CAT, 1)] * n)


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(st.one_of(cats, st.lists(items, max_size=30)), max_size=6),
    backtrack=st.sampled_from([0, 1, 20, 20, 74]),
)
def test_split_is_a1111s_loop(parts, backtrack):
    flat = [item for part in parts for item in part]
    made = [BREAK if index is None else (Token(index),) * length for index, length in flat]
    chunks, count = split(made, backtrack)
    expected, total = a1111(flat, backtrack)
    assert [[token.id for token in chunk.tokens] for chunk in chunks] == expected
    assert count == total


def test_weights_follow_their_tokens():
    chunks, _ = split([(Token(CAT, 1.0 + i / 100),) for i in range(100)])
    assert chunks[0].weights == [1.0, *(1 + i / 100 for i in range(75)), 1.0]
    assert chunks[1].weights == [1.0, *(1 + i / 100 for i in range(75, 100)), *[1.0] * 51]


def test_an_embedding_is_never_split_and_never_too_long():
    chunks, count = split([*[(Token(CAT),)] * 70, (Token(0),) * 8])
    assert ([len(c.tokens) for c in chunks], count) == ([70, 8], 83)
    with pytest.raises(BadRequest, match="76 vectors"):
        split([(Token(0),) * 76])
