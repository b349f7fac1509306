"""Numbers as prompts write them."""

from decimal import Decimal
from math import copysign, isfinite
from sys import float_info


def finite(text: str) -> float | None:
    """The number that `text` is, or None: "1.2.3", ".", "nan" and 400 nines are words."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def bounded(value: float) -> float:
    """`value`, or the greatest number there is: JSON and pictures know no infinity."""
    return value if isfinite(value) else copysign(float_info.max, value)


def written(value: float) -> str:
    """`value` as `finite` reads it back, without an exponent, which no prompt allows."""
    return f"{Decimal(repr(value)):f}"
