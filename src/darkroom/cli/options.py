"""Command line flags: made from the declarations of requests and settings, or shared by verbs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from darkroom.cli.boundary import Reply

Command = Callable[..., Any]

MODEL_FLAGS = ("models_dirs", "data_dir")  # settings, of verbs that only look at models
DEVICE_FLAGS = ("device", "dtype", "threads", *MODEL_FLAGS)
PROMPT_FLAGS = ("embeddings_dirs", "wildcards_dirs", "styles_files")
IMAGE_FLAGS = ("image_format", "image_quality", "image_metadata", "image_stealth")
# Of verbs that make pictures.
SETTING_FLAGS = (*IMAGE_FLAGS, *DEVICE_FLAGS, *PROMPT_FLAGS, "preview_seconds")

# As text, not as a path: "v1.5/" is a folder because of its end.
OUTPUT = click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="The name of a .png, .jpg, .webp or .avif file, or a folder.  [default: outputs/<date>/]",
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


class Grouped(click.Command):
    """A command whose help lists its options under headings, the ungrouped ones first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group, in the order in which the groups first come."""
        sections: dict[str, list[tuple[str, str]]] = {"": []}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(option, "group", ""), []).append(record)
        for group, records in sections.items():
            with formatter.section(group.capitalize() or "Options"):
                formatter.write_dl(records)


def flags(model: type[BaseModel], names: Iterable[str]) -> Callable[[Command], Command]:
    """A decorator that adds one `--flag` for each named field of `model`.

    Values arrive as text (or, of yes-or-no fields, as bool), or None when not given; the model
    itself validates them, so that the command line, the API and a settings file give the same
    answers.
    """

    def decorate(command: Command) -> Command:
        for name in reversed(list(names)):
            command = _flag(name, model.model_fields[name])(command)
        return command

    return decorate


def _flag(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    word = name.replace("_", "-")
    told: dict[str, Any] = {"help": _help(field), "group": _group(field), "cls": Flag}
    if bool in (field.annotation, *get_args(field.annotation)):
        # Help shows the word that changes something.
        return click.option(f"--{word}/--no-{word}", name, default=None, **told)
    # One of a list is given at a time: `--models-dir A --models-dir B`.
    words = (word, word.removesuffix("s")) if word.endswith(("dirs", "files")) else (word,)
    dashed = [f"--{each}" for each in words]
    return click.option(*dashed, name, metavar=_metavar(field), multiple=_is_list(field), **told)


def _group(field: FieldInfo) -> str:
    """Fields of requests say where they belong; settings are about the machine."""
    extra = field.json_schema_extra
    return str(extra.get("group", "")) if isinstance(extra, dict) else ""


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only the flags that the user wrote."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    default = field.default
    if "[default:" in text or field.default_factory or default in (None, (), "", False):
        return text
    return f"{text}  [default: {'on' if default is True else default}]"


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
