"""What picture files say about how they were made: ours written, everybody's read."""

from darkroom.media.metadata.found import Found, FoundModel
from darkroom.media.metadata.ours import read_recipe
from darkroom.media.metadata.readers import drawn, find

__all__ = ["Found", "FoundModel", "drawn", "find", "read_recipe"]
