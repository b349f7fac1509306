"""What a running job tells the world. Append-only, so a reloaded page replays from `seq`."""

from dataclasses import dataclass, field
from typing import Any, Literal

EventKind = Literal[
    "queued", "started", "step", "preview", "artifact", "caption", "sheet", "warning", "done",
    "failed",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one job; whoever runs the job stamps `job` and `seq`.

    What `data` holds, by kind (all values are JSON):

    - started: `images`, `steps` (per picture, as the sampler walks them), `width`, `height` (px),
      `model`, `device`, `plan`, `networks` (on the first picture, in words)
    - step: `image`, `step` of `steps` (from 1), `done` (steps of all pictures so far), `rate` (per
      second)
    - preview: `image`, `path`
    - artifact: `image`, `path`, `seed` (null where nothing was drawn), `seconds`, `sha256`
    - caption: `image`, `text`, `tags` (pairs of a name and how sure it is, the surest first),
      `heads` (what was decided one by one: the same pairs by head); in a batch `of` which picture,
      and the `path` of its file
    - sheet: `path` of a picture or page that shows the others together; written over as it grows
    - warning: `text`
    - done: `images`, `seconds`
    - failed: `error` (class name), `text`, `hint`
    """

    kind: EventKind
    data: dict[str, Any] = field(default_factory=dict)
    job: str = ""
    seq: int = 0
