"""Captions for scenes: varied sentences, short forms and tag lists, all in lower case.

A bare "a red apple" must mean something sensible, so what a caption leaves out has its usual
value: 3d style, white background, middle of the picture, clean.
"""

import numpy as np

from starter.compose import GROUNDS, Composer, Scene
from starter.objects_table import OBJECTS, PLACES, QUALITIES, SIZES, STYLES

STYLE_PREFIX = {
    "3d": ("a 3d render of", "3d render of", "a 3d picture of"),
    "flat": ("a flat illustration of", "a flat drawing of", "an illustration of"),
    "line art": ("line art of", "a line drawing of", "a black and white line drawing of"),
    "pixel art": ("pixel art of", "a pixel art picture of"),
}
STYLE_TAG = {
    "3d": ("3d", "3d render"),
    "flat": ("flat illustration", "flat", "flat style"),
    "line art": ("line art", "line drawing"),
    "pixel art": ("pixel art",),
}
STYLE_NAMED = {"3d": 0.35, "flat": 0.92, "line art": 1.0, "pixel art": 1.0}
QUALITY_TAG = {
    "blurry": ("blurry", "blurry", "out of focus"),
    "noisy": ("noisy", "grainy"),
    "low quality": ("low quality", "worst quality", "jpeg artifacts"),
}
PRAISE = ("best quality", "masterpiece", "high quality", "masterpiece, best quality")
PLURALS = ("grapes", "cherries", "scissors", "glasses", "broccoli", "corn")
OPENING = ("a picture of", "an image of", "a photo of", "picture of")


def _one(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase; plurals and the like take none."""
    if phrase.rsplit(" ", 1)[-1] in PLURALS:
        return phrase
    return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"


def noun(rng: np.random.Generator, thing: int, colour: str, *, usual: float = 0.85) -> str:
    """Return colour and object; the object's own name with a chance of `usual`."""
    entry = OBJECTS[thing]
    name = entry.name
    if entry.synonyms and rng.random() > usual:
        name = _one(rng, entry.synonyms)
    return f"{colour} {name}" if colour else name


def _colour_word(
    rng: np.random.Generator, composer: Composer, thing: int, colour: int, style: int
) -> str:
    name = composer.colour_name(thing, colour, style)
    return name if colour or rng.random() < 0.5 else ""


class _Words:
    """What one caption will mention, chosen once and laid out by a template."""

    def __init__(self, rng: np.random.Generator, composer: Composer, scene: Scene) -> None:
        style = int(scene["style"])
        colour = _colour_word(rng, composer, int(scene["thing"]), int(scene["colour"]), style)
        self.subject = noun(rng, int(scene["thing"]), colour)
        if scene["size"] and rng.random() < (0.85 if not scene["place"] else 0.4):
            size = SIZES[int(scene["size"])]
            self.subject = (
                f"{'big' if size == 'large' and rng.random() < 0.4 else size} {self.subject}"
            )
        self.other = ""
        if scene["other"] >= 0:
            tint = _colour_word(
                rng, composer, int(scene["other"]), int(scene["other_colour"]), style
            )
            self.other = noun(rng, int(scene["other"]), tint)
        ground = GROUNDS[int(scene["ground"])]
        self.ground = "" if ground == "white" and rng.random() < 0.55 else f"{ground} background"
        self.style = STYLES[style] if rng.random() < STYLE_NAMED[STYLES[style]] else ""
        self.place = PLACES[int(scene["place"])] if scene["place"] else ""
        self.quality = ""
        if scene["quality"]:
            self.quality = _one(rng, QUALITY_TAG[QUALITIES[int(scene["quality"])]])
        elif rng.random() < 0.15:
            self.quality = _one(rng, PRAISE)


def _tags(rng: np.random.Generator, words: _Words) -> str:
    """Lay out as a list: "red apple, blue background, 3d"."""
    tags = [words.ground, words.place and f"on the {words.place}", words.quality]
    if words.style:
        tags.append(_one(rng, STYLE_TAG[words.style]))
    tags = [tag for tag in tags if tag]
    rng.shuffle(tags)
    head = [words.subject, words.other] if words.other else [words.subject]
    if words.other and rng.random() < 0.5:
        head = [f"{words.subject} and {words.other}"]
    return ", ".join([*tags, *head] if rng.random() < 0.15 else [*head, *tags])


def _sentence(rng: np.random.Generator, words: _Words) -> str:
    """Lay out as a sentence: "a 3d render of a red apple on a blue background"."""
    text = with_article(words.subject) if rng.random() < 0.85 else words.subject
    if words.other:
        link = _one(rng, ("and", "and", "next to", "beside"))
        text = f"{text} {link} {with_article(words.other)}"
    if words.style and rng.random() < 0.6:
        text = f"{_one(rng, STYLE_PREFIX[words.style])} {text}"
        words.style = ""
    elif rng.random() < 0.15:
        text = f"{_one(rng, OPENING)} {text}"
    if words.place:
        text += f" {_one(rng, ('on the', 'at the'))} {words.place}"
    if words.ground:
        link = _one(rng, ("on a", "on a", "on a", "with a", "in front of a"))
        text += f" {link} {words.ground}" if rng.random() < 0.85 else f", {words.ground}"
    if words.style:
        text += f", {_one(rng, STYLE_TAG[words.style])}"
    if words.quality:
        before = words.quality == "blurry" and text.startswith("a ") and rng.random() < 0.4
        text = f"a blurry {text[2:]}" if before else f"{text}, {words.quality}"
    return text


def caption(rng: np.random.Generator, composer: Composer, scene: Scene) -> str:
    """Write one of the many captions of a scene."""
    words = _Words(rng, composer, scene)
    return _tags(rng, words) if rng.random() < 0.3 else _sentence(rng, words)
