import pytest

from darkroom.core.errors import BadRequest
from darkroom.core.ranges import decimals, integers, split


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1, 2,3", [1, 2, 3]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("1-5 (+2)", [1, 3, 5]),
        ("10-5 (-3)", [10, 7]),
        ("10-1 (-3)", [10, 7, 4, 1]),
        ("1-10 [5]", [1, 3, 5, 7, 10]),
        ("5-1", [5, 4, 3, 2, 1]),
        ("-5--1, 7", [-5, -4, -3, -2, -1, 7]),
        ("-3", [-3]),
        ("1-10 [1]", [1]),
        ("18446744073709551615", [2**64 - 1]),
        ("", []),
    ],
)
def test_whole_numbers_and_their_ranges(text, numbers):
    assert integers(text) == numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-1 (+0.1)", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ("1-3 (+0.5)", [1, 1.5, 2, 2.5, 3]),
        ("0.0-1.0 [6]", [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("-1.5, .5, 7.", [-1.5, 0.5, 7]),
    ],
)
def test_decimals_are_exact(text, numbers):
    assert decimals(text) == numbers


@pytest.mark.parametrize(
    "text",
    ["a", "1.5", "1-10 (+0)", "1-10 (-1)", "1-10 [0]", "1--", "1-1000000000", "1-9 [99999]", "1e3"],
)
def test_what_is_no_number_or_too_many_is_refused_in_words(text):
    with pytest.raises(BadRequest):
        integers(text)


def test_items_are_quoted_as_in_csv():
    assert split('"a, b", c ,, "say ""x""" \n d') == ["a, b", "c", 'say "x"', "d"]
    assert split('red, ""') == ["red", ""]
    assert split('7" screen, 8') == ['7" screen', "8"]
