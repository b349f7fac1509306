"""`darkroom caption`: pictures in words."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkroom.cli.boundary import DONE, FAILED, Reply
from darkroom.cli.info import each_picture
from darkroom.cli.options import DEVICE_FLAGS, JSON, Grouped, called, flags, given, pass_reply
from darkroom.core.errors import Cancelled, from_event, printable
from darkroom.core.processing import CaptionRequest
from darkroom.core.settings import Configured, Settings

if TYPE_CHECKING:
    from darkroom.jobs.worker import Worker

FLAGS = ("model", "threshold", "most")


@click.command(cls=Grouped)
@click.argument(
    "pictures",
    nargs=-1,
    required=True,
    metavar="PICTURE…",
    type=click.Path(path_type=Path),
)
@flags(CaptionRequest, FLAGS)
@JSON
@flags(Settings, DEVICE_FLAGS)
@pass_reply
def caption(reply: Reply, /, pictures: tuple[Path, ...], **values: Any) -> int:
    """Say what each PICTURE shows. Of a folder every picture in it is described.

    Without --model the starter's own captioner answers, which knows what the starter draws. For
    photographs and drawings of all kinds pull a captioner or a tagger first:

    \b
    darkroom models pull hf:Salesforce/blip-image-captioning-base
    darkroom models pull hf:SmilingWolf/wd-vit-tagger-v3
    darkroom caption holiday.jpg --model blip-image-captioning-base
    """
    asked = {name: values.pop(name) for name in FLAGS}
    settings = Configured.load_here(given(values)).values
    paths = list(each_picture(pictures))
    requests = [_request(path, asked) for path in paths]
    _refuse(requests[:1], settings, reply)
    from darkroom.cli.running import stop_flag
    from darkroom.jobs.worker import Worker  # imports torch: seconds

    worker, rows = Worker(settings), []
    with stop_flag() as stop:
        for path, request in zip(paths, requests, strict=True):
            row = {"file": str(path), **_described(worker, request, stop=stop.is_set, reply=reply)}
            rows.append(row)
            _show(reply, row, single=len(paths) == 1)
    if reply.as_json:
        reply.json(rows[0] if len(rows) == 1 else rows)
    return FAILED if any("error" in row for row in rows) else DONE


def _request(path: Path, asked: dict[str, Any]) -> CaptionRequest:
    fields = {"image": str(path), **given(asked)}
    return CaptionRequest.parse(fields, called=called(CaptionRequest))


def _refuse(requests: list[CaptionRequest], settings: Settings, reply: Reply) -> None:
    """Raise for a model or picture that is not here, before torch's seconds are spent."""
    from darkroom.cli.running import refuse
    from darkroom.library.models import Library

    library = Library.of(settings, tell=reply.note)
    for request in requests:
        refuse(request, library)


def _described(
    worker: "Worker", request: CaptionRequest, *, stop: Callable[[], bool], reply: Reply
) -> dict[str, Any]:
    """What is said of one picture, or what was wrong with it; a stop ends everything."""
    row: dict[str, Any] = {}
    for event in worker.run(request, stop=stop):
        match event.kind:
            case "caption":
                row |= {name: event.data[name] for name in ("text", "tags", "heads")}
            case "warning" if not reply.as_json:
                if event.data["text"] not in reply.fields.get("warnings", ()):  # of several, once
                    reply.note(event.data["text"])
            case "warning":
                row.setdefault("warnings", []).append(event.data["text"])
            case "failed" if isinstance(error := from_event(event.data), Cancelled):
                raise error
            case "failed":
                row |= event.data
            case _:
                pass
    return row


def _show(reply: Reply, row: dict[str, Any], *, single: bool) -> None:
    if "error" in row and single:
        raise from_event(row)
    if reply.as_json:
        return
    if "error" in row:
        click.echo(f"darkroom: {from_event(row).sentence()}", err=True)
        return
    text = printable(row["text"])
    click.echo(text if single else f"{printable(row['file'])}: {text}")
