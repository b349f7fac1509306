"""A megabyte is read in a second or so on a quiet machine; what is quadratic takes minutes."""

import random
import time

import pytest

from darkroom.core.errors import StudioError
from darkroom.core.prompt import (
    attention,
    expand,
    from_comfyui,
    from_invokeai,
    networks,
    parts,
    read_styles,
    schedule,
    without_comments,
)

SIZE = 60_000
BOUND_S = 3  # ten times what a slow machine takes
PATTERNS = [
    "(", "[", ")", "]", "{", "}", "|", "\\", "_", "<", "#", ":", " ", "+", '"', "9", ".", "\n",
    "(a", "[a:", "[a|b", "{a|", "[a|b]", "[a:b:5]", "(a:1.2)", "(a)", "()", ")(", "][", "(:", ": ",
    "AND ", "BREAK ", "a:1 AND ", "<lora:", "<lora:a:1>", "<lora:>", "a++ ", "__a__", "__a", "{2$$",
    '("a",', ").and(", "#\n", "\\a", "[[a]:b:1]", "embedding:",
]  # fmt: skip
NESTED = [
    ("(", ")"),
    ("[", "]"),
    ("{", "}"),
    ("[a:", ":5]"),
    ("[a|", "]"),
    ("{a|", "}"),
    ("(a", ":1.1)"),
    ("([", "])"),
]
FUNCTIONS = {
    "attention": attention,
    "schedule": lambda text: schedule(text, 30),
    "parts": parts,
    "networks": networks,
    "comments": without_comments,
    "expand": lambda text: expand(text, 0),
    "comfyui": from_comfyui,
    "invokeai": from_invokeai,
    "styles": read_styles,
}


def mixed(letters):
    return "".join(random.Random(0).choices(letters, k=SIZE))


TEXTS = [
    *(pattern * (SIZE // len(pattern)) for pattern in PATTERNS),
    *(a * (SIZE // 8) + "x" + b * (SIZE // 8) for a, b in NESTED),
    "(" * (SIZE // 4) + "[" * (SIZE // 4) + ")" * (SIZE // 4) + "]" * (SIZE // 4),
    "[a:b" + " " * SIZE + ":5" + " " * SIZE + "]",
    "(a:" + "9" * SIZE + ")",
    mixed("()[]{}:|\\ a1.5,\n"),
    mixed("()[]: a5"),
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_linear(name):
    for text in TEXTS:
        start = time.process_time()
        try:
            FUNCTIONS[name](text)
        except StudioError as error:
            assert error.hint
        spent = time.process_time() - start
        assert spent < BOUND_S, f"{name} took {spent:.1f} s for {text[:20]!r}…"


@pytest.mark.parametrize("bracket", ["(", "[", "{", "[a:"])
def test_a_megabyte_of_brackets(bracket):
    text = bracket * (1_000_000 // len(bracket))
    start = time.process_time()
    assert schedule(text, 30) == ((30, text),)
    assert len(attention(text)) < SIZE
    assert expand(text, 0).text == text
    assert time.process_time() - start < 3 * BOUND_S


def test_a_long_prompt_takes_a_moment():
    prompt = "a (photo:1.2) of [a cat:a dog:0.5], <lora:x:0.8> very detailed, " * 22  # 198 words
    best = 1.0
    for _ in range(50):
        start = time.process_time()
        text, _found = networks(without_comments(prompt))
        for stage in schedule(text, 30):
            attention(stage.text)
        best = min(best, time.process_time() - start)
    assert best < 0.01
