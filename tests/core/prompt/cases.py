"""The golden cases by group, and texts that look at everything the grammar knows."""

import json
from pathlib import Path

from hypothesis import strategies as st

GOLDENS = json.loads((Path(__file__).parents[2] / "goldens" / "prompts.json").read_text("utf-8"))

WORDS = [
    "(", ")", "[", "]", "{", "}", "|", ":", "\\", "#", "\n", " ", "a", "cat, ", "é", "1.2", ":1.3)",
    ":0.5]", "::3]", "[b|", " AND ", " BREAK ", "<lora:x:1>", "__y__", "2$$", "2::", "++", '"', ".and()",
    "\x1c", "\x85", "\u3000", ":1.2\x1c)", ":0.5\x1f]", ":2\x85", "٣", ":٣)", "²", "BREAK", ":-1)", ":0)",
]  # fmt: skip

TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=25).map("".join)
