"""`darkroom models …`: what can be used here. Each verb is a module, imported when it is called."""

from typing import Any

import click

from darkroom.cli.models.asked import FLAGS, list_flags, note, view_flags
from darkroom.cli.options import JSON, MODEL_FLAGS
from darkroom.cli.table import Table

VERBS = {
    "list": ("darkroom.cli.models.listing:list_models", "List the models here, by kind."),
    "show": ("darkroom.cli.models.show", "Show all that is known about a model."),
    "search": ("darkroom.cli.models.search", "Find models by words about them."),
    "verify": ("darkroom.cli.models.verify", "Hash files anew and compare with what is known."),
    "convert": ("darkroom.cli.models.convert", "Write a model as one .safetensors file."),
    "prune": ("darkroom.cli.models.convert:prune", "Write a checkpoint without dead weight."),
    "merge": ("darkroom.cli.models.merge", "Make one checkpoint of two or three."),
    "extract-lora": ("darkroom.cli.models.extract", "Make a LoRA of what a checkpoint learned."),
    "pull": ("darkroom.cli.models.pull", "Fetch a model from Hugging Face, Civitai or a URL."),
}


@click.group(cls=Table, verbs=VERBS, invoke_without_command=True)
@JSON
@FLAGS
@list_flags
@view_flags
@click.pass_context
def models(context: click.Context, /, **values: Any) -> None:
    """List the models on this machine, or do something with one.

    Without a verb the models are listed; the flags are those of `list`.
    """
    note(context, {name: values.pop(name) for name in MODEL_FLAGS})
    if context.invoked_subcommand is None:
        from darkroom.cli.models.listing import list_models

        context.invoke(list_models, **values)
    elif early := [f"--{name.removesuffix('ed')}" for name, value in values.items() if value]:
        raise click.UsageError(f"{', '.join(early)}: write it after the verb", context)
