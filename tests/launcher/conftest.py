"""What the tests of the launcher share."""

from pathlib import Path

import pytest

from launcher.clones import Clone, make_clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A fresh clone in a folder whose name has a space."""
    return make_clone(tmp_path, "a clone")
