"""Four times the text takes four times as long; a megabyte a second or so on a quiet machine."""

import random
import time
from itertools import cycle

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

SMALL, SIZE = 15_000, 60_000
RATIO = 6  # of processor times at SIZE and SMALL, which is four times as much text
SHORT_S = 0.1  # below it a time says nothing
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
    ("[a||", "]"),
    ("[:[:a:3]", ":5]"),
    ("[[a|b|c]:", ":5]"),
    ("{a|", "}"),
    ("(a", ":1.1)"),
    ("([", "])"),
]
COPRIME = (3, 5, 7, 11, 13)
CYCLES = "".join(f"[{'|' * (length - 1)}]" for length in COPRIME)
LETTERS = "".join(f"[{'|'.join('abcdefghijklm'[:length])}]" for length in COPRIME)
FUNCTIONS = {
    "attention": attention,
    "schedule": lambda text: schedule(text, 30),
    "schedule of 150": lambda text: schedule(text, 150),
    "schedule of 2000": lambda text: schedule(text, 2000),
    "parts": parts,
    "networks": networks,
    "comments": without_comments,
    "expand": lambda text: expand(text, 0),
    "comfyui": from_comfyui,
    "invokeai": from_invokeai,
    "styles": read_styles,
}


def mixed(letters, size):
    return "".join(random.Random(0).choices(letters, k=size))


def ascending(form, most, size):
    """Edits that end at 1, 2, 3… and from `most` on at 1 again."""
    text = "".join(form.format(n) for _, n in zip(range(size // 4), cycle(range(1, most))))
    return text[: text.rindex("]", 0, size) + 1]


def rising(size):
    """Cycles of all lengths."""
    lengths = range(2, int(size**0.5))
    return "".join(f"[{'a|' * length}]" for length in lengths)


def texts(size):
    return [
        *(pattern * (size // len(pattern)) for pattern in PATTERNS),
        *(a * (size // 16) + "x" + b * (size // 16) for a, b in NESTED),
        "(" * (size // 4) + "[" * (size // 4) + ")" * (size // 4) + "]" * (size // 4),
        "[a:b" + " " * size + ":5" + " " * size + "]",
        "(a:" + "9" * size + ")",
        mixed("()[]{}:|\\ a1.5,\n", size),
        mixed("()[]: a5", size),
        "[|]" * (size // 3) + LETTERS + CYCLES,
        CYCLES * (size // len(CYCLES)),
        LETTERS * (size // len(LETTERS)),
        f"[{LETTERS}:{LETTERS}:7]" * (size // 2 // len(LETTERS)),
        rising(size),
        *(
            ascending(form, most, size)
            for form in ("[::{}]", "[a:b:{}]")
            for most in (30, 150, 9000)
        ),
        "[:" * (size // 8) + "".join(f":{n % 150}]" for n in range(size // 8)),
    ]


def seconds(function, text):
    """Processor time; a refusal is an answer too."""
    start = time.process_time()
    try:
        function(text)
    except StudioError as error:
        assert error.hint
    return time.process_time() - start


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_linear(name):
    function = FUNCTIONS[name]
    for small, large in zip(texts(SMALL), texts(SIZE), strict=True):
        spent = seconds(function, large)
        tries = 5  # because the machine does other things too
        while spent > SHORT_S and spent > RATIO * seconds(function, small) + SHORT_S:
            tries -= 1
            assert tries, f"{name} is not linear in {small[:20]!r}…"
            spent = seconds(function, large)
        assert spent < BOUND_S, f"{name} took {spent:.1f} s for {large[:20]!r}…"


@pytest.mark.parametrize("bracket", ["(", "[", "{", "[a:"])
def test_a_megabyte_of_brackets(bracket):
    text = bracket * (1_000_000 // len(bracket))
    start = time.process_time()
    assert schedule(text, 30) == ((30, text),)
    assert len(attention(text)) < SIZE
    assert expand(text, 0).text == text
    assert time.process_time() - start < 3 * BOUND_S


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("[|]" * 330_000 + CYCLES, 150),
        (ascending("[::{}]", 150, 1_000_000), 150),
        (ascending("[::{}]", 9000, 1_000_000), 9000),
        (LETTERS * (1_000_000 // len(LETTERS)), 150),
    ],
    ids=["still cycles", "150 edits", "9000 edits", "cycles"],
)
def test_a_megabyte_that_changes_in_every_step(text, steps):
    assert seconds(lambda text: schedule(text, steps), text) < 2 * BOUND_S


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
