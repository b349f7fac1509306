"""Command line flags made from the declarations of requests and settings."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Command = Callable[..., Any]


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
    options = [a for a in (field.annotation, *get_args(field.annotation)) if a in kinds]
    if options:
        return kinds[options[0]]
    choices = [str(a) for a in get_args(field.annotation) if isinstance(a, str)]
    return "|".join(choices) or "PATH"


def _is_list(field: FieldInfo) -> bool:
    return isinstance(field.default, tuple)
