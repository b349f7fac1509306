"""`darkroom info`: how pictures were made, as their files tell it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from darkroom.cli.boundary import DONE, FAILED, Reply
from darkroom.cli.options import JSON, pass_reply
from darkroom.core.errors import BadFile, NoMetadata, StudioError, printable
from darkroom.core.fields import STORED
from darkroom.core.processing import AUTO, CutoutRequest, UpscaleRequest
from darkroom.core.recipe import Recipe
from darkroom.core.request import ImageRequest
from darkroom.media.metadata import Found, find

_PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".tif", ".tiff", ".heic", ".heif"}
)


@click.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE…",
    type=click.Path(path_type=Path, allow_dash=True),
)
@JSON
@pass_reply
def info(reply: Reply, /, files: tuple[Path, ...]) -> int:
    """Show how the pictures FILE… were made.

    Read are the files of Darkroom, A1111, Forge, SD.Next, Civitai, NovelAI, InvokeAI, ComfyUI,
    SwarmUI, Fooocus, Easy Diffusion and Draw Things; a .txt or .json beside a picture or by
    itself; and a text from standard input, where FILE is -. Of a folder every picture in it is
    shown.
    """
    if len(files) == 1 and not files[0].is_dir():
        only = found_in(files[0])
        if not reply.as_json and (why := _no_picture(files[0])):
            reply.note(why)
        _show(reply, only)
        return DONE
    rows = [_row(path) for path in each_picture(files)]
    if reply.as_json:
        reply.json([found.to_json() | row if found else row for row, found in rows])
    else:
        for row, found in rows:
            _show_row(reply, row, found)
    return DONE if all(found for _, found in rows) else FAILED


def each_picture(files: tuple[Path, ...]) -> Iterator[Path]:
    """The files, and the pictures in the folders, by name."""
    for path in files:
        if not path.is_dir():
            yield path
            continue
        try:
            names = sorted(path.iterdir())
        except OSError as error:
            hint = "Can you open it yourself? Name the pictures in it one by one."
            told = f"the folder {path} cannot be read: {error.strerror}"
            raise BadFile(told, hint=hint) from None
        yield from (name for name in names if name.suffix.lower() in _PICTURES)


def _no_picture(path: Path) -> str:
    """Why a file that is called like a picture is none; "" where it is one."""
    from darkroom.media.picture import picture_size

    if path.suffix.lower() in _PICTURES:
        try:
            picture_size(path)
        except BadFile as error:
            return str(error)
    return ""


def found_in(path: Path) -> Found:
    """How the picture at `path` was made; NoMetadata when it says nothing."""
    found = find(path)
    if found is None:
        where = "standard input" if str(path) == "-" else str(path)
        raise NoMetadata(
            f"{where} says nothing about how it was made",
            hint="Sites and chat programs remove it from pictures; ask for the original file.",
        )
    return found


def _row(path: Path) -> tuple[dict[str, Any], Found | None]:
    """A file with what was found in it, or with what was wrong."""
    row: dict[str, Any] = {"file": str(path)}
    try:
        return row, found_in(path)
    except StudioError as error:
        told = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
        return row | told, None


def _show_row(reply: Reply, row: dict[str, Any], found: Found | None) -> None:
    if found is None:
        click.echo(printable(f"{row['text']}. {row['hint']}"), err=True)
        return
    click.echo(printable(row["file"]))
    _show(reply, found)
    click.echo()


def _show(reply: Reply, found: Found) -> None:
    if reply.as_json:
        reply.json(found.to_json())
        return
    rows = _theirs(found) if found.recipe is None else _ours(found.recipe)
    for title, value in rows:
        for number, line in enumerate(value.splitlines() or [""]):
            click.echo(f"{printable('' if number else title):16} {printable(line)}")


_ALWAYS = (
    "prompt",
    "negative_prompt",
    "width",
    "height",
    "steps",
    "sampler",
    "scheduler",
    "cfg_scale",
)
_ELSEWHERE = ("kind", "seed", "count", "model", "variation_seed", "dynamic_prompts")


def _ours(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What was asked for, the fields with their usual value left out, and what it ran on."""
    if recipe.template is not None:
        yield "template", recipe.template.prompt
        yield "styles", ", ".join(recipe.template.styles)
    yield from _done(recipe)
    yield from _fields(recipe.request)
    if isinstance(recipe.request, ImageRequest) or getattr(recipe.request, "paint", None):
        yield "seed", str(recipe.seed)
    if recipe.variation_seed is not None:
        yield "variation seed", str(recipe.variation_seed)
    yield from ((used.role, f"{used.name} ({used.sha256[:10]})") for used in recipe.models)
    yield "device", recipe.device
    yield "versions", ", ".join(f"{name} {text}" for name, text in recipe.versions.items())
    if recipe.source:
        yield "before", recipe.source


def _done(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What was done to a picture that was finished before."""
    request = recipe.request
    used = {model.role: model.name for model in recipe.models}
    if isinstance(request, CutoutRequest):
        model = used.get("segmenter") or ("auto" if request.model == AUTO else request.model)
        yield "cut out", f"with {model}{', the mask alone' if request.mask_only else ''}"
    elif isinstance(request, UpscaleRequest):
        sides = " x ".join(str(side) for side in (request.width, request.height) if side)
        size = f"to {sides} px" if sides else f"{request.scale:g}x"
        painted = ", detail painted in" if request.paint else ""
        yield "upscaled", f"{size} with {used.get('upscaler', request.upscaler)}{painted}"


def _value(name: str, value: object) -> str:
    """In words; of a picture that is named by its content, the start of that."""
    if name == "init strength" and value == 0:
        return "0 (the picture as it is)"
    if isinstance(value, str) and value.startswith(STORED):
        return value.removeprefix(STORED)[:10]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fields(part: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The fields of a request that have not their usual value, those of its blocks behind them."""
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        title = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{title} ")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for number, each in enumerate(value, 1):
                yield from _fields(each, f"{title} {number} ")
        elif not prefix and name in _ELSEWHERE:
            continue
        elif value != field.default or (not prefix and name in _ALWAYS and value is not None):
            yield title, _value(title, value)


def _theirs(found: Found) -> Iterator[tuple[str, str]]:
    yield "made with", found.source
    yield "prompt", found.prompt
    yield "negative prompt", found.negative_prompt
    yield from found.settings.items()
    for each in found.models:
        more = [each.hash or "", f"weight {each.weight:g}" if each.weight is not None else ""]
        told = ", ".join(filter(None, more))
        yield each.role, f"{each.name} ({told})" if told else each.name
    for text in found.left_out:
        yield "not used here", text
