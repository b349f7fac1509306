"""Command line flags: made from the declarations of requests and settings, or shared by verbs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from darkroom.cli.boundary import Reply

Command = Callable[..., Any]

MODEL_FLAGS = ("models_dirs", "data_dir")  # settings, of verbs that only look at models
DEVICE_FLAGS = ("device", "dtype", "threads", *MODEL_FLAGS)
SETTING_FLAGS = (*DEVICE_FLAGS, "preview_seconds")  # of verbs that make pictures

# As text, not as a path: "v1.5/" is a folder because of its end.
OUTPUT = click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="A file name that ends in .png, or a folder.  [default: outputs/<date>/]",
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


def flags(model: type[BaseModel], names: Iterable[str]) -> Callable[[Command], Command]:
    """A decorator that adds one `--flag` for each named field of `model`.

    Values arrive as text, or None when not given; the model itself validates them, so that the
    command line, the API and a settings file give the same answers.
    """

    def decorate(command: Command) -> Command:
        for name in reversed(list(names)):
            field = model.model_fields[name]
            command = click.option(
                f"--{name.replace('_', '-')}",
                name,
                metavar=_metavar(field),
                multiple=_is_list(field),
                help=_help(field),
            )(command)
        return command

    return decorate


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only the flags that the user wrote."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    default = field.default
    if "[default:" in text or field.default_factory or default in (None, (), ""):
        return text
    return f"{text}  [default: {default}]"


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
