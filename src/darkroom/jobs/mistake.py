"""An error that nobody foresaw: the traceback goes to a file, and the user is told where it is."""

import traceback
from pathlib import Path

from darkroom.core.errors import StudioError, shorten
from darkroom.media.files import write_whole


def mistake(error: Exception, log: Path | None) -> StudioError:
    """The sentence for `error`, after its traceback was written to `log` where that is possible."""
    hint = "Please report it with the command you ran."
    try:
        if log is not None:
            text = "".join(traceback.format_exception(error))
            write_whole(log, text.encode(errors="backslashreplace"))
            hint = f"Please report it with {log}."
    except (StudioError, OSError):
        pass
    what = f"{type(error).__name__}: {shorten(str(error), 300)}"
    return StudioError(f"Darkroom made a mistake: {what}", hint=hint)
