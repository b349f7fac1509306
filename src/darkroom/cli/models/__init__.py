"""`darkroom models …`: what can be used here. Each verb is a module, imported when it is called."""

from typing import Any

import click

from darkroom.cli.models.asked import FLAGS, note
from darkroom.cli.options import JSON
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
@click.pass_context
def models(context: click.Context, /, **values: Any) -> None:
    """List the models on this machine, or do something with one.

    Without a verb the models are listed.
    """
    note(context, values)
    if context.invoked_subcommand is None:
        from darkroom.cli.models.listing import list_models

        context.invoke(list_models)
