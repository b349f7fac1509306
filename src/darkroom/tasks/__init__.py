"""Features as functions from a request to a stream of events."""

from darkroom.tasks.image import generate
from darkroom.tasks.job import Job, PreviewClock

__all__ = ["Job", "PreviewClock", "generate"]
