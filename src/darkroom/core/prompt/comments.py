"""`# like this`: what is written for people."""

import re

_LINE = re.compile(r"(?:\A|\n)#.*(?:\n|\Z)")
_END = re.compile(r"#.*(?:\n|\Z)")


def without_comments(text: str) -> str:
    """`text` without what stands behind a `#`, as A1111 cuts it.

    A line that is only a comment goes with its line break, if another kind of line stands before
    and behind it; else an empty line stays. `#ff0000` is a comment too.
    """
    return _END.sub("\n", _LINE.sub("\n", text)) if "#" in text else text
