"""Models from Hugging Face, Civitai and links: what `darkroom models pull` does.

Nothing else in Darkroom opens a connection, and nothing here does so unasked. From below:
`place` (an address), `addresses` (who may be connected to), `line` (the way there), `web` (one
request), `transfer` (one file, resumable), `look` (what is arriving), `names` (made safe),
`sources` (what a user may name), `hub` and `civitai` (a page to a plan), `pull` (a plan to files).
"""

from darkroom.library.download.addresses import Guard
from darkroom.library.download.plan import Choice, Plan
from darkroom.library.download.pull import Pulled, Puller
from darkroom.library.download.sources import Sites
from darkroom.library.download.transfer import Notice, Progress
from darkroom.library.download.web import Web

__all__ = ["Choice", "Guard", "Notice", "Plan", "Progress", "Pulled", "Puller", "Sites", "Web"]
