"""The control side starts without torch: in truth, not only by the import contracts.

Importing `darkroom.weights.header` also runs `darkroom/weights/__init__.py`, which the contracts do
not see.
"""

import subprocess
import sys
import tomllib

from launcher.clones import ROOT
from tools import check

PROGRAM = """
import importlib, pkgutil, sys
import darkroom
LATE = set(sys.argv[1:])
for name in ("cli", "core", "jobs", "library", "server"):
    try:
        package = importlib.import_module(f"darkroom.{name}")
    except ModuleNotFoundError as error:
        assert error.name == f"darkroom.{name}", error
        continue
    for found in pkgutil.walk_packages(package.__path__, f"darkroom.{name}."):
        if found.name not in LATE:
            importlib.import_module(found.name)
            heavy = {"torch", "diffusers", "transformers", "numpy"} & sys.modules.keys()
            assert not heavy, f"{found.name} imports {heavy}"
for name in ("darkroom.weights.header", "darkroom.weights.detect"):
    importlib.import_module(name)
assert "torch" not in sys.modules, "a model card is made without torch"
"""


def worker_side() -> list[str]:
    """The modules that the import contracts let the control side import late."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    edges = [edge.split(" -> ") for each in contracts for edge in each.get("ignore_imports", ())]
    return [module for by, module in edges if by == "darkroom.**"]


def test_the_control_side_never_imports_torch() -> None:
    late = worker_side()
    assert "darkroom.jobs.worker" in late
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *late],
        cwd=ROOT,
        env=check.environment(),
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stderr
