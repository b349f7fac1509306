"""The examples of docs/prompts.md are true."""

import re
from pathlib import Path

import pytest

from darkroom.core import prompt

PAGE = (Path(__file__).parents[3] / "docs" / "prompts.md").read_text("utf-8")


def weights(pieces):
    return " | ".join(f"{text}·{weight:g}" for text, weight in pieces)


def stages(found):
    return " | ".join(f"{end}: {text}" for end, text in found)


SHOWN = {
    "attention": lambda text: weights(prompt.attention(text)),
    "parts": lambda text: weights(prompt.parts(text)),
    "schedule": lambda text: stages(prompt.schedule(text, 20)),
    "schedule-4": lambda text: stages(prompt.schedule(text, 4)),
    "networks": lambda text: prompt.networks(text)[0],
    "comments": prompt.without_comments,
    "dynamic": lambda text: " / ".join(sorted({prompt.expand(text, s).text for s in range(99)})),
    "comfyui": prompt.from_comfyui,
    "invokeai": prompt.from_invokeai,
}
BLOCKS = [block for block in re.findall(r"```([\w-]+)\n(.*?)```", PAGE, re.S) if block[0] != "sh"]
EXAMPLES = [
    (kind, *map(str.strip, line.split("=>")))
    for kind, lines in BLOCKS
    for line in lines.splitlines()
]


def test_every_kind_of_example_is_there():
    assert {kind for kind, _, _ in EXAMPLES} == SHOWN.keys()


@pytest.mark.parametrize(("kind", "text", "told"), EXAMPLES)
def test_examples(kind, text, told):
    shown = SHOWN[kind](text)
    assert " ".join(shown.split()) == " ".join(told.split())


def test_the_public_names():
    assert all(getattr(prompt, name) is not None for name in prompt.__all__)
    assert len(prompt.__all__) == len(set(prompt.__all__))
