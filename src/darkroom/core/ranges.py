"""Lists of values as people type them: 1, 2, 3 · 1-10 (+2) · 0-1 [5] · "a, b", c.

The syntax is that of A1111's X/Y/Z plot. Items stand between commas or line breaks; one with a
comma in it stands in double quotes, where "" is a quote.
"""

import re
from decimal import Decimal
from fractions import Fraction

from darkroom.core.errors import BadRequest, shorten

MOST = 10_000  # values of one list

_ITEM = re.compile(r'[^\S\n]*(?:"((?:[^"]|"")*)"([^,\n]*)|([^,\n]*))(?:[,\n]|\Z)')
_NUMBER = r"([+-]?\s*(?:\d+(?:\.\d*)?|\.\d+))"
_RANGE = re.compile(
    rf"\s*{_NUMBER}\s*-\s*{_NUMBER}\s*(?:\(\s*{_NUMBER}\s*\)|\[\s*(\d{{1,9}})\s*\])?\s*"
)
_HINT = "Write 10, 20, 30 or a range: 1-10, 1-10 (+2), 10-1 (-3), 0-1 [5]."


def split(text: str) -> list[str]:
    """The items of a list, trimmed; what is empty is left out, unless it is quoted."""
    items, place = [], 0
    while place < len(text):
        found = _ITEM.match(text, place)
        if found is None:  # cannot be: the last branch takes anything
            break
        place = found.end()
        quoted, rest, bare = found.groups()
        if quoted is not None:
            items.append(quoted.replace('""', '"') + rest.rstrip())
        elif bare.strip():
            items.append(bare.strip())
    return items


def integers(text: str) -> list[int]:
    """Whole numbers and ranges of them; BadRequest where an item is neither."""
    found: list[int] = []
    for item in split(text):
        numbers = _numbers(item, whole=True)
        found += [int(number) for number in numbers]
        _bound(len(found))
    return found


def decimals(text: str) -> list[float]:
    """Numbers and ranges of them; BadRequest where an item is neither.

    They are reckoned in decimals, so that 0-1 (+0.1) has 0.3 and not 0.30000000000000004.
    """
    found: list[float] = []
    for item in split(text):
        found += [float(number) for number in _numbers(item, whole=False)]
        _bound(len(found))
    return found


def _numbers(item: str, *, whole: bool) -> list[Fraction]:
    """The number or the range that an item is."""
    if (given := _RANGE.fullmatch(item)) is None:
        return [_number(item, item, whole=whole)]
    first, last = (_number(given[place], item, whole=whole) for place in (1, 2))
    if given[4] is not None:
        return _spread(first, last, int(given[4]), item=item)
    step = _number(given[3], item, whole=whole) if given[3] else Fraction(1)
    if not step:
        raise BadRequest(f"the step in {shorten(item)!r} is 0", hint=_HINT)
    if given[3] is None and last < first:
        step = -step
    count = (last - first) // step + 1
    if count < 1:
        told = f"{shorten(item)!r} never gets from its first number to its last"
        raise BadRequest(told, hint="Going down takes a negative step: 10-1 (-3).")
    _bound(count)
    return [first + place * step for place in range(count)]


def _spread(first: Fraction, last: Fraction, count: int, *, item: str) -> list[Fraction]:
    """`count` numbers at equal distances."""
    if count < 1:
        raise BadRequest(f"{shorten(item)!r} has no values", hint=_HINT)
    _bound(count)
    if count == 1:
        return [first]
    return [first + (last - first) * Fraction(place, count - 1) for place in range(count)]


def _number(text: str, item: str, *, whole: bool) -> Fraction:
    bare = re.sub(r"\s", "", text)
    if re.fullmatch(
        r"[+-]?\d{1,40}" if whole else r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})", bare
    ):
        return Fraction(Decimal(bare))
    kind = "whole number" if whole else "number"
    raise BadRequest(f"{shorten(item)!r} is no {kind} and no range", hint=_HINT)


def _bound(count: int) -> None:
    if count > MOST:
        raise BadRequest(f"{count:,} values are too many: {MOST:,} at most")
