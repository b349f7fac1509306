"""What was found in a file: the same shape whatever program wrote it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from darkroom.core.recipe import Recipe
from darkroom.media.metadata.fields import request_fields
from darkroom.media.metadata.infotext_table import OLD_RULES

Program = Literal[
    "darkroom", "a1111", "forge", "sdnext", "civitai", "novelai", "invokeai", "comfyui", "swarmui",
    "fooocus", "easydiffusion", "drawthings",
]  # fmt: skip
_HASH = re.compile(r"(?:0x)?([0-9a-fA-F]{6,64})")
_NAMED_BY = {"refiner": "Refiner", "hires checkpoint": "Hires checkpoint"}  # role -> its setting
_LIKE_A1111 = ("a1111", "forge", "civitai")  # what an infotext of theirs implies, was so
_NO_MODEL = frozenset(
    {"", "none", "automatic", "use same checkpoint", "use same choices", "built-in", "null"}
)
_FIRST_PASS = ("Size", "Hires resize")  # made of other sizes, where there is a first pass
_SIZE = re.compile(r"(\d{1,14})x(\d{1,14})")
_MAX_NAME = 400  # characters of a model's name


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A weight file that took part, by the name its program gave it; never a path."""

    role: str  # checkpoint, refiner, vae, lora, embedding, hypernetwork, …
    name: str
    hash: str | None = None  # hexadecimal, as long as the program writes it
    weight: float | None = None
    text_weight: float | None = None  # on the text encoders, where that is said apart
    algorithm: str = ""  # of the hash, where it is said

    @classmethod
    def of(
        cls,
        role: str,
        name: object,
        *,
        hash: object = None,
        weight: object = None,
        text_weight: object = None,
    ) -> "FoundModel":
        """Clean what a stranger's file says: folders go, and so does a hash that is none."""
        algorithm, _, digits = hash.rpartition(":") if isinstance(hash, str) else ("", "", "")
        digest = _HASH.fullmatch(digits)
        return cls(
            role=role,
            name=base_name(str(name)),
            hash=digest[1].lower() if digest else None,
            weight=number(weight),
            text_weight=number(text_weight),
            algorithm=algorithm[:20].lower(),
        )

    @property
    def digest(self) -> str | None:
        """The hash, if it is of a kind that files here can be found by."""
        return self.hash if self.algorithm in ("", "sha256") else None

    def to_json(self) -> dict[str, str | float]:
        """Only what is known."""
        known = {"role": self.role, "name": self.name, "hash": self.hash, "weight": self.weight}
        return {key: value for key, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How a picture was made.

    `settings` have the names that A1111 gives them, where it has one, and the values as the program
    wrote them, as text. `recipe` is there for our own files only.
    """

    source: Program
    prompt: str = ""
    negative_prompt: str = ""
    settings: Mapping[str, str]
    models: tuple[FoundModel, ...] = ()
    remarks: tuple[str, ...] = ()  # what a reader had to leave out, in words
    implied: Mapping[str, Any] | None = None  # what A1111 adds to an infotext on reading
    recipe: Recipe | None = None
    passed_over: frozenset[str] = frozenset()  # fields of the request that are not wanted

    @property
    def kind(self) -> str:
        """What kind of request makes it again."""
        return "image" if self.recipe is None else self.recipe.request.kind

    def without(self, names: Iterable[str]) -> "Found":
        """The same but for some fields of the request."""
        return replace(self, passed_over=frozenset(names))

    @property
    def checkpoint(self) -> FoundModel | None:
        """The model that made the picture, where the file names it."""
        return next((each for each in self.models if each.role == "checkpoint"), None)

    def fields(self, picture: str | None = None) -> dict[str, Any]:
        """What `parse_request` takes of it: all but the model, which is to be looked up.

        `picture` is the one to begin with, where the file does not hold it.
        """
        if self.recipe is not None:
            left = {"model"} if self.kind == "image" else set()
            found = self.recipe.again().model_dump(exclude=left)
        else:
            found, _ = self._request(picture)
        return {name: value for name, value in found.items() if name not in self.passed_over}

    @property
    def loose(self) -> list[FoundModel]:
        """The files besides the checkpoint that neither a setting nor a prompt names."""
        said = {*self.settings.values(), *map(base_name, self.settings.values())}
        words = f"{self.prompt}\n{self.negative_prompt}".casefold()
        return [
            each
            for each in self.models
            if each.role != "checkpoint"
            and _NAMED_BY.get(each.role) not in self.settings
            and each.name not in said
            and not re.search(rf"[:/\\]{re.escape(each.name)}[:>]", self.prompt)
            and not (each.role == "embedding" and each.name.casefold() in words)
        ]

    @property
    def left_out(self) -> list[str]:
        """What has no counterpart in our request, in words."""
        return self.not_in_request()

    def not_in_request(self, picture: str | None = None) -> list[str]:
        """`left_out` where `picture` is the one to begin with."""
        if self.recipe is not None:
            return []
        _, unmapped = self._request(picture)
        rules = [f"{key}: {words}" for key, words in OLD_RULES.items() if self._rules().get(key)]
        loose = [
            f"{each.role} {each.name!r}" + (f" (weight {each.weight:g})" if each.weight else "")
            for each in self.loose
        ]
        return [*unmapped, *rules, *loose, *self.remarks]

    def _request(self, picture: str | None) -> tuple[dict[str, Any], list[str]]:
        return request_fields(self.prompt, self.negative_prompt, self._asked(), picture=picture)

    def _asked(self) -> dict[str, str]:
        """The settings, with those that A1111 leaves unsaid and that change pixels.

        Its noise comes from the graphics card, which is almost always NVIDIA's.
        """
        asked = {**self.settings, **{key: "True" for key in self._rules() if key not in OLD_RULES}}
        whole = {**(self.implied or {}), **self.settings}
        if self.source in _LIKE_A1111 and str(whole.get("RNG")).upper() == "GPU":
            asked["RNG"] = "NV"
        return asked

    def _rules(self) -> Mapping[str, Any]:
        """The old rules by which A1111 made the picture."""
        implied = self.implied if self.source in _LIKE_A1111 else None
        return {key: value for key, value in (implied or {}).items() if value is True}

    def to_json(self) -> dict[str, Any]:
        """What `darkroom info --json` prints."""
        shown: dict[str, Any] = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "settings": {
                **self.settings,
                **dict(split_sizes(self.settings)),
                **(self.implied or {}),
            },
            "models": [each.to_json() for each in self.models],
            "source": self.source,
        }
        if self.recipe is not None:
            told = self.recipe.model_dump(mode="json", exclude={"models", "source"})
            return shown | told | ({"before": self.recipe.source} if self.recipe.source else {})
        if self.implied is not None:
            shown["implied"] = dict(self.implied)
        return shown | {"request": self.fields(), "left_out": self.left_out}


def split_sizes(settings: Mapping[str, str]) -> Iterator[tuple[str, str | int]]:
    """A1111's other names for sizes: "Size: 512x768" is also "Size-1" and "Size-2".

    They are texts, but numbers where A1111 reckons them from the size of a first pass.
    """
    sizes = {key: found for key, value in settings.items() if (found := _SIZE.fullmatch(value))}
    for key, size in sizes.items():
        kind = int if "First pass size" in sizes and key in _FIRST_PASS else str
        yield f"{key}-1", kind(size[1])
        yield f"{key}-2", kind(size[2])


def is_model(name: str | None) -> bool:
    """Whether it is the name of a model, and not a word for none."""
    return name is not None and name.strip().casefold() not in _NO_MODEL


def base_name(name: str) -> str:
    """The name of a file without its folders, of whatever system."""
    return re.split(r"[\\/]", name[:4096].rstrip("\\/"))[-1].strip()[:_MAX_NAME]


def number(value: object) -> float | None:
    """A finite number, also where it is written as text; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < 1e300 else None


def as_text(value: object) -> str:
    """A JSON value as a setting's text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def renamed(document: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """The settings of `document` by A1111's names; `names` maps its keys, nested ones by dots.

    What is empty, null or false is left out, as A1111 does.
    """
    settings: dict[str, str] = {}
    for key, name in names.items():
        value = at(document, key)
        if value is not None and value is not False and value not in ("", [], {}):
            settings.setdefault(name, as_text(value))
    if {"Width", "Height"} <= settings.keys():
        settings["Size"] = f"{settings.pop('Width')}x{settings.pop('Height')}"
    return settings


def at(document: object, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for key in path.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def text_at(document: object, *paths: str) -> str:
    """The first text among the values at `paths`; empty when there is none."""
    values = (at(document, path) for path in paths)
    text = next((value for value in values if isinstance(value, str) and value), "")
    return text.lstrip("\ufeff")


def dicts(value: object) -> list[dict[str, Any]]:
    """The objects in a list; nothing when it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
