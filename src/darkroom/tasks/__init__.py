"""Features as functions from a request to a stream of events."""

from darkroom.tasks.fitting import Fitting
from darkroom.tasks.image import finish, generate
from darkroom.tasks.job import Job, Output, PreviewClock
from darkroom.tasks.wording import Wording

__all__ = ["Fitting", "Job", "Output", "PreviewClock", "Wording", "finish", "generate"]
