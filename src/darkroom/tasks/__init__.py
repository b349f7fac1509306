"""Features as functions from a request to a stream of events."""

from darkroom.tasks.fitting import Fitting
from darkroom.tasks.image import finish, generate
from darkroom.tasks.job import Job, PreviewClock

__all__ = ["Fitting", "Job", "PreviewClock", "finish", "generate"]
