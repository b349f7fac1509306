"""docs/samplers.md says what the rows say and what is measured."""

import re

import pytest

from tools.samplers import PAGE, mended, without_errors


@pytest.fixture(scope="module")
def pages():
    page = PAGE.read_text("utf-8")
    return page, mended(page)


def test_the_tables_are_those_of_the_rows(pages):
    page, fresh = pages
    assert without_errors(page) == without_errors(fresh), "python -m tools.samplers --write"


def test_the_errors_on_the_page_are_what_is_measured(pages):
    written, measured = ([float(e) for e in re.findall(r"\d+e-\d+", page)] for page in pages)
    assert len(written) > 25
    assert max(measured) <= 2e-5
    # The last places differ from machine to machine.
    assert all(m <= 4 * w for w, m in zip(written, measured, strict=True))
