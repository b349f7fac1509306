"""Command line flags: made from the declarations of requests and settings, or shared by verbs.

A plain field of a request is a flag of its own name. A block (core/blocks.py) gives one flag for
each of its fields: the field's own `flag`, else the block's name and the field's, as in
`--hires-scale`. Any flag of a block brings the block; one that can be made of nothing has a switch
too, as `--hires`. A list of blocks is one flag that may be given again (cli/spelled.py).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any, get_args

import click
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from darkroom.cli.boundary import Reply
from darkroom.cli.spelled import SPELLED
from darkroom.core.errors import BadRequest
from darkroom.core.fields import Called, dotted
from darkroom.core.request import ImageRequest
from darkroom.core.series import KINDS

Command = Callable[..., Any]

MODEL_FLAGS = ("models_dirs", "data_dir")  # settings, of verbs that only look at models
DEVICE_FLAGS = ("device", "dtype", "threads", *MODEL_FLAGS)
PROMPT_FLAGS = ("embeddings_dirs", "wildcards_dirs", "styles_files")
IMAGE_FLAGS = ("image_format", "image_quality", "image_metadata", "image_stealth")
# Of verbs that make pictures.
SETTING_FLAGS = (*IMAGE_FLAGS, *DEVICE_FLAGS, *PROMPT_FLAGS, "preview", "preview_seconds")

# The headings under which `--help` lists settings, and the order of those that come last.
_HEADINGS: Mapping[str, str] = {
    **dict.fromkeys(IMAGE_FLAGS, "picture files"),
    **dict.fromkeys((*MODEL_FLAGS, *PROMPT_FLAGS), "folders"),
    **dict.fromkeys(("device", "dtype", "threads", "preview", "preview_seconds"), "machine"),
}
_BRIEF = (
    "noise", "sampler", "schedule", "guidance", "picture files", "machine", "folders",
)  # fmt: skip
ALL = "darkroom.help_all"  # in a context's `meta`, where all is to be told
_LAST = (
    "prompt", "noise", "sampler", "schedule", "guidance", "picture files", "machine", "folders",
)  # fmt: skip

# Fields of a request for pictures, as verbs offer them: `kind` is the verb, `prompt` its argument.
PICTURE_BLOCKS = ("init", "mask", "outpaint", "loopback")
REQUEST_FLAGS = tuple(name for name in ImageRequest.model_fields if name not in ("kind", "prompt"))
PLAIN_FLAGS = tuple(name for name in REQUEST_FLAGS if name not in PICTURE_BLOCKS)

# As text, not as a path: "v1.5/" is a folder because of its end.
OUTPUT = click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="The name of a .png, .jpg, .webp or .avif file, or a folder.  [default: outputs/<date>/]",
)
FRESH = click.option(
    "--fresh", is_flag=True, help="Begin anew in a folder that holds another series; nothing goes."
)
pass_reply = click.make_pass_decorator(Reply)


def _note_json(context: click.Context, _option: click.Parameter, value: bool) -> None:
    reply = context.find_object(Reply)
    if value and reply is not None:
        reply.as_json = True


JSON = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_note_json,
    help="Print one JSON value instead.",
)


class Flag(click.Option):
    """An option that knows under which heading of `--help` it belongs."""

    def __init__(self, words: Sequence[str], *, group: str = "", **settings: Any) -> None:
        super().__init__(words, **settings)
        self.group = group


def _show_all(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        context.meta[ALL] = True
        click.echo(context.get_help(), color=context.color)
        context.exit()


def _names(records: Iterable[tuple[str, str]], width: int) -> str:
    """The names of options alone, as a paragraph; no name is broken."""
    words = (told.split()[0].rstrip(",") for told, _ in records)
    text = fill(
        "  ".join(words),
        width,
        break_on_hyphens=False,
        initial_indent="  ",
        subsequent_indent="  ",
    )
    return f"{text}\n"


class Grouped(click.Command):
    """A command whose help lists its options under headings: what is used most comes first.

    Of the groups in _BRIEF it gives the names only; `--help-all` tells of them too.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters, and `--help-all` where there is more to tell."""
        found = super().get_params(ctx)
        if not any(getattr(each, "group", "") in _BRIEF for each in found):
            return found
        more = click.Option(
            ["--help-all"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_all,
            help="Show this with every option explained.",
        )
        return [*found, more]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group: the ungrouped, others as they first come, then _LAST."""
        sections: dict[str, list[tuple[str, str]]] = {"": []}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(option, "group", ""), []).append(record)
        place = {group: number for number, group in enumerate(_LAST, 1)}
        for group, records in sorted(sections.items(), key=lambda each: place.get(each[0], 0)):
            with formatter.section(group.capitalize() or "Options"):
                if group in _BRIEF and ALL not in ctx.meta:
                    formatter.write(_names(records, formatter.width))
                else:
                    formatter.write_dl(records)


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a request that one flag fills."""

    name: str  # of the flag, with underscores
    path: tuple[str, ...]  # of the field; of a block's switch that of the block
    field: FieldInfo
    group: str
    switch: bool = False


def slots(model: type[BaseModel], names: Iterable[str] | None = None) -> Iterator[Slot]:
    """The flags for the fields `names` of `model` (all by default), those of blocks among them."""
    for name in model.model_fields if names is None else names:
        field = model.model_fields[name]
        block = block_of(field)
        if block is None or _is_list(field):
            group = str(_told(field, "group")) or (name if block else _HEADINGS.get(name, ""))
            yield Slot(name, (name,), field, group)
            continue
        inner = [
            Slot(
                str(_told(part, "flag")) or f"{name}_{key}",
                (name, key),
                part,
                str(_told(part, "group")) or name,
            )
            for key, part in block.model_fields.items()
        ]
        # What the block adds stands before what it has like other blocks.
        inner.sort(key=lambda slot: slot.path[-1] not in block.__annotations__)
        if name not in {slot.name for slot in inner} and _of_nothing(block):
            yield Slot(name, (name,), field, inner[-1].group, switch=True)
        yield from inner


def flags(
    model: type[BaseModel], names: Iterable[str], *, but: Collection[str] = ()
) -> Callable[[Command], Command]:
    """A decorator that adds the flags for the named fields of `model`, but those called `but`.

    Values arrive as text (or, of yes-or-no fields, as bool), or None when not given; the model
    itself validates them, so that the command line, the API and a settings file give the same
    answers. `request_of` puts them together.
    """

    def decorate(command: Command) -> Command:
        for slot in reversed(list(slots(model, names))):
            if slot.name not in but:
                command = _flag(slot)(command)
        return command

    return decorate


def request_of(values: Mapping[str, Any], model: type[BaseModel] = ImageRequest) -> dict[str, Any]:
    """What the user wrote, as `model.parse` takes it: only what was given, the blocks nested.

    A block that was switched off is None. `values` may hold more than the flags of `model`.
    BadRequest when a list is misspelt, or a block is switched off and filled.
    """
    found: dict[str, Any] = {}
    for slot in slots(model):
        value = values.get(slot.name)
        if value is None or value == ():
            continue
        if slot.switch:
            found[slot.name] = {} if value else None
        elif len(slot.path) == 1:
            spelled = SPELLED.get(slot.name)
            found[slot.name] = [spelled(each) for each in value] if spelled else value
        else:
            block, key = slot.path
            if found.setdefault(block, {}) is None:
                raise BadRequest(
                    f"{_dashed(slot.name)} and --no-{block} contradict",
                    hint="Leave one of them out.",
                )
            found[block][key] = value
    return found


def called(model: type[BaseModel] = ImageRequest) -> Called:
    """What the fields of `model` are called on the command line, also as the base of a series."""
    known = {
        slot.path: _dashed(slot.name.removesuffix("s") if slot.name in SPELLED else slot.name)
        for slot in slots(model)
    }

    def name(place: tuple[int | str, ...]) -> str:
        if place[:1] == ("base",):
            place = place[2:] if place[1:2] and place[1] in KINDS else place[1:]
        flag = next((known[place[:end]] for end in (2, 1) if place[:end] in known), "")  # type: ignore[index]
        if not flag:
            return dotted(place) if place else ""
        part = dotted(place[2:]) if len(place) > 2 else ""
        if place[2:3] == ("box",) and len(place) > 3:
            part = _SIDES[int(place[3])]
        return f"{flag} ({part})" if part else flag

    return name


_SIDES = ("left", "top", "width", "height")  # of the box of a region


def _flag(slot: Slot) -> Callable[[Command], Command]:
    field = slot.field
    told: dict[str, Any] = {"help": _help(field), "group": slot.group, "cls": Flag}
    if slot.switch or bool in (field.annotation, *get_args(field.annotation)):
        # Help shows the word that changes something.
        words = f"{_dashed(slot.name)}/--no-{slot.name.replace('_', '-')}"
        return click.option(words, slot.name, default=None, **told)
    # One of a list is given at a time: `--models-dir A --models-dir B`.
    names = (slot.name, slot.name.removesuffix("s")) if _is_list(field) else (slot.name,)
    dashed = [_dashed(name) for name in dict.fromkeys(names)]
    metavar = _METAVARS.get(slot.path[-1]) or _metavar(field)
    return click.option(*dashed, slot.name, metavar=metavar, multiple=_is_list(field), **told)


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _told(field: FieldInfo, key: str) -> object:
    """What a field of a request says for forms and flags; settings say nothing."""
    extra = field.json_schema_extra
    return extra.get(key, "") if isinstance(extra, dict) else ""


def block_of(field: FieldInfo) -> type[BaseModel] | None:
    """The block that a field holds, or holds a list of."""
    parts = (field.annotation, *get_args(field.annotation))
    return next((p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)), None)


def _of_nothing(block: type[BaseModel]) -> bool:
    try:
        block()
    except ValidationError:
        return False
    return True


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only the flags that the user wrote."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    default = field.default
    is_open = field.is_required() or field.default_factory or default in (None, (), "", False)
    if "[default:" in text or is_open:
        return text
    return f"{text}  [default: {'on' if default is True else default}]"


_METAVARS = {
    "image": "FILE",
    "sketch": "FILE",
    "first": "FILE",
    "detail": "WHAT[,NAME=VALUE…]",
    "regions": "PLACE[,NAME=VALUE…]: PROMPT",
}


def _metavar(field: FieldInfo) -> str:
    kinds = {int: "N", float: "X", str: "TEXT"}
    parts = list(_parts(field.annotation))
    found = [kinds[part] for part in parts if part in kinds]
    choices = [part for part in parts if isinstance(part, str)]
    return "|".join(choices) or next(iter(found), "PATH")


def _parts(annotation: Any) -> Iterator[Any]:
    """The plain types and literals in an annotation such as `Annotated[int, ...] | None`."""
    inner = get_args(annotation)
    if not inner and (isinstance(annotation, str) or annotation in (int, float, str)):
        yield annotation
    for part in inner:
        yield from _parts(part)


def _is_list(field: FieldInfo) -> bool:
    return isinstance(field.default, tuple)
