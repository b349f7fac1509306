"""What `./darkroom test` runs.

Without arguments: every check below, each with a one-line verdict, then all tests. All of them
run, whatever fails; a check that fails prints what it found. With arguments: pytest alone, with
those arguments, for the quick round while working (paths are relative to the project's folder).

The last line on standard output is pytest's own summary, because that is what CI services read.
The exit status speaks for everything: 1 if a check failed, else pytest's.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORKERS = 2  # processes that share the tests


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A command that ends with status 0 if all is well."""

    name: str
    arguments: tuple[str, ...]  # of Python
    show: bool = False  # print its output even if it passes


# import-linter has no `python -m` of its own.
CONTRACTS = "from importlinter.cli import lint_imports_command as check; check(['--no-cache'])"

CHECKS = (
    Check(name="lock files", arguments=("-m", "tools.lock")),
    Check(name="lint", arguments=("-m", "ruff", "check", "--quiet", "--output-format=concise")),
    Check(name="format", arguments=("-m", "ruff", "format", "--check", "--output-format=concise")),
    Check(name="types", arguments=("-m", "mypy", "--no-error-summary")),
    Check(name="import contracts", arguments=("-c", CONTRACTS)),
    Check(name="spelling", arguments=("-m", "codespell_lib")),
    Check(name="sizes", arguments=("-m", "tools.sizes"), show=True),
    Check(name="privacy", arguments=("-m", "tools.privacy")),
)


def environment() -> dict[str, str]:
    """Ours, with the package and the tools where Python finds them, and UTF-8 everywhere."""
    places = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    return {**os.environ, "PYTHONPATH": places, "PYTHONUTF8": "1"}


def passes(check: Check) -> bool:
    """Run one check; print its verdict, and its output if it is wanted."""
    start = time.perf_counter()
    command = [sys.executable, "-P", *check.arguments]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    good = ran.returncode == 0
    verdict = "ok" if good else f"FAILED (status {ran.returncode})"
    print(f"{check.name + ' ':.<24} {verdict} ({time.perf_counter() - start:.1f} s)", flush=True)
    if not good or check.show:
        print("".join(f"    {line}\n" for line in ran.stdout.splitlines()), end="", flush=True)
    return good


def run_tests(failed: list[str]) -> int:
    """Run all tests; put our own verdict before pytest's last line. pytest's exit status."""
    colour = "yes" if sys.stdout.isatty() else "no"
    command = [sys.executable, "-m", "pytest", f"-n{WORKERS}", f"--color={colour}"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, encoding="utf-8"
    ) as tests:
        last = ""
        for line in tests.stdout or ():
            print(last, end="", flush=True)
            last = line
    print(f"checks: {len(CHECKS) - len(failed)} of {len(CHECKS)} passed", end="")
    print(f"; FAILED: {', '.join(failed)}" if failed else "")
    print(last, end="", flush=True)
    return tests.returncode


def main() -> int:
    """Run the checks and all tests, or pytest with the arguments given."""
    # darkroom.bat cannot drop its own first word.
    arguments = sys.argv[2:] if os.name == "nt" and sys.argv[1:2] == ["test"] else sys.argv[1:]
    if arguments:
        command = [sys.executable, "-m", "pytest", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment()).returncode
    failed = [check.name for check in CHECKS if not passes(check)]
    return run_tests(failed) or bool(failed)


if __name__ == "__main__":
    sys.exit(main())
