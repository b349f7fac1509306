"""`darkroom batch VERB INPUT…`: the same with every picture of a folder, or line of a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
from pydantic import BaseModel

from darkroom.cli.boundary import Reply
from darkroom.cli.options import (
    FRESH,
    JSON,
    OUTPUT,
    PLAIN_FLAGS,
    SETTING_FLAGS,
    Grouped,
    called,
    flags,
    given,
    pass_reply,
    request_of,
)
from darkroom.cli.running import run
from darkroom.core.fields import EACH
from darkroom.core.processing import CaptionRequest, CutoutRequest, UpscaleRequest
from darkroom.core.request import ImageRequest
from darkroom.core.series import BatchRequest
from darkroom.core.settings import Configured, Settings

PROMPT_FLAGS = ("prompt_from", "prompt_place", "take")
LIST_FLAGS = ("recursive", "seeds")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verb:
    """What is done with each of them."""

    name: str
    told: str
    model: type[BaseModel] = ImageRequest
    blocks: tuple[str, ...] = ()
    begin: Mapping[str, Any] = field(default_factory=dict)  # fields that the verb itself says
    but: tuple[str, ...] = ()  # flags that it has not
    batch: tuple[str, ...] = (*PROMPT_FLAGS, *LIST_FLAGS)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the request that become flags."""
        if self.model is ImageRequest:
            return ("prompt", *self.blocks, *PLAIN_FLAGS)
        return tuple(name for name in self.model.model_fields if name not in ("kind", "image"))


_INIT: Mapping[str, Any] = {"init": {"image": EACH}}
VERBS = (
    _Verb(name="txt2img", told="A picture for each line of a table or list of prompts."),
    _Verb(
        name="img2img",
        told="A picture from each picture.",
        blocks=("init", "loopback"),
        begin=_INIT,
        but=("init",),
    ),
    _Verb(
        name="inpaint",
        told="Paint a part of each picture anew.",
        blocks=("init", "mask"),
        begin={**_INIT, "mask": {}},
        but=("init", "mask"),
        batch=("masks", *PROMPT_FLAGS, *LIST_FLAGS),
    ),
    _Verb(
        name="outpaint",
        told="Continue each picture beyond its borders.",
        blocks=("outpaint", "init"),
        begin={**_INIT, "outpaint": {}},
        but=("init",),
    ),
    _Verb(
        name="hires",
        told="Run the second pass of hires fix on each picture.",
        begin={"hires": {"first": EACH}},
        but=("hires", "hires_first", "width", "height"),
    ),
    _Verb(
        name="detail",
        told="Paint faces and the like in each picture anew.",
        begin={"init": {"image": EACH, "strength": 0}, "detail": [{}]},
    ),
    _Verb(
        name="upscale",
        told="Make each picture larger.",
        model=UpscaleRequest,
        begin={"image": EACH},
        batch=("recursive",),
    ),
    _Verb(
        name="cutout",
        told="Take the background of each picture away.",
        model=CutoutRequest,
        begin={"image": EACH},
        batch=("recursive",),
    ),
    _Verb(
        name="caption",
        told="Describe each picture in a .txt of its name.",
        model=CaptionRequest,
        begin={"image": EACH},
        batch=("recursive",),
    ),
)


@click.group()
def batch() -> None:
    """Work off many pictures, or a list, with one command.

    Inputs are pictures, folders, patterns ("photos/*.jpg"), archives (zip, tar), tables (csv, tsv,
    json, jsonl) whose columns are fields of the request, and lists of prompts (txt). Results have
    the names of what they were made from. Nothing is overwritten, and what is there already is not
    made again: the same command with the same -o goes on where it ended.

    \b
    darkroom batch img2img photos/ --prompt "a watercolour" --strength 0.5 -o painted/
    darkroom batch txt2img prompts.txt --steps 30 -o pictures/
    darkroom batch upscale scans.zip --scale 2 -o large/
    """


def _command(verb: _Verb) -> click.Command:
    def work(
        reply: Reply, /, inputs: tuple[str, ...], *, output: str | None, fresh: bool, **values: Any
    ) -> None:
        base: dict[str, Any] = {"kind": verb.model.model_fields["kind"].default}
        base |= _merged(verb.begin, request_of(values, verb.model))
        asked = given({name: values[name] for name in verb.batch})
        fields = {"base": base, "inputs": inputs, **asked}
        request = BatchRequest.parse(fields, called=called(verb.model))
        settings = Configured.load_here(given({name: values[name] for name in SETTING_FLAGS}))
        run(request, settings.values, output=output, reply=reply, fresh=fresh)

    parts: tuple[Callable[..., Any], ...] = (
        click.argument("inputs", nargs=-1, required=True, metavar="INPUT…"),
        FRESH,
        flags(BatchRequest, verb.batch),
        flags(verb.model, verb.fields, but=verb.but),
        OUTPUT,
        JSON,
        flags(Settings, SETTING_FLAGS),
    )
    function: Callable[..., Any] = pass_reply(work)
    for part in reversed(parts):
        function = part(function)
    return click.command(name=verb.name, cls=Grouped, help=verb.told)(function)


def _merged(begin: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the verb says and what the user says, block by block."""
    both = dict(begin) | dict(asked)
    for name in begin.keys() & asked.keys():
        if isinstance(begin[name], Mapping) and isinstance(asked[name], Mapping):
            both[name] = {**begin[name], **asked[name]}
    return both


for _verb in VERBS:
    batch.add_command(_command(_verb))
