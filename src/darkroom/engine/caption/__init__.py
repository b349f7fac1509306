"""Pictures to words: the starter's own captioner, BLIP, and taggers of the WD14 family."""

from darkroom.engine.caption.answer import Caption, Captioner, Tags, best
from darkroom.engine.caption.loading import OURS, load_captioner
from darkroom.engine.caption.starter import Starter

__all__ = ["OURS", "Caption", "Captioner", "Starter", "Tags", "best", "load_captioner"]
