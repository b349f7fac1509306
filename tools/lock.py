"""The lock files: exact versions of everything Darkroom needs, directly or not.

    python -m tools.lock            check; one line per finding, exit status 1 if there is one
    python -m tools.lock --write    write both files anew from what is installed here

`requirements.lock` is the closure of the project's dependencies, `requirements-test.lock` what the
extra `test` adds. Both are plain `name==version` lines, the same for every system and Python we
support: markers are evaluated for all of them, and a package needed on one is locked for all.

pip installs from the lock with its resolver on. That matters in one place: PyTorch's builds for
NVIDIA cards need further packages, chosen by the build itself and pinned by it exactly; they are
left to the resolver (`PLATFORM`), so one lock serves the small CPU build and the large one. Every
other name is a requirement with `==`, so the resolver has nothing to choose.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
RUN, TEST = ROOT / "requirements.lock", ROOT / "requirements-test.lock"

# Chosen and pinned by PyTorch's own build.
PLATFORM = re.compile(r"(nvidia|cuda)-.*|triton(-.*)?")

SYSTEMS = (
    ("linux", "Linux", "x86_64", "posix"),
    ("linux", "Linux", "aarch64", "posix"),
    ("darwin", "Darwin", "arm64", "posix"),
    ("win32", "Windows", "AMD64", "nt"),
)
PYTHONS = ("3.11", "3.12", "3.13")


def environments() -> Iterator[dict[str, str]]:
    """Marker values of every system and Python that Darkroom supports."""
    for (platform, system, machine, name), version in product(SYSTEMS, PYTHONS):
        yield {
            "sys_platform": platform,
            "platform_system": system,
            "platform_machine": machine,
            "os_name": name,
            "python_version": version,
            "python_full_version": f"{version}.0",
            "platform_python_implementation": "CPython",
            "implementation_name": "cpython",
        }


def applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Whether `requirement` counts on any supported system, with one of `extras` or none."""
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({**values, "extra": extra})
        for values in environments()
        for extra in (*extras, "")
    )


def needs(name: str, extras: Iterable[str] = ()) -> list[Requirement]:
    """What the installed package `name` requires; nothing if it is not installed."""
    try:
        declared = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    wanted = [Requirement(line) for line in declared]
    return [
        each
        for each in wanted
        if applies(each, extras) and not PLATFORM.fullmatch(canonicalize_name(each.name))
    ]


def closure(roots: Iterable[Requirement]) -> dict[str, list[tuple[str, Requirement]]]:
    """Every package that `roots` lead to, with who asks for it and how."""
    asked: dict[str, list[tuple[str, Requirement]]] = {}
    queue = [("pyproject.toml", each) for each in roots]
    seen: set[tuple[str, str]] = set()
    while queue:
        by, requirement = queue.pop()
        if (by, str(requirement)) in seen:
            continue
        seen.add((by, str(requirement)))
        name = canonicalize_name(requirement.name)
        asked.setdefault(name, []).append((by, requirement))
        queue.extend((name, each) for each in needs(name, requirement.extras))
    return asked


def roots(project: Path = ROOT / "pyproject.toml") -> tuple[list[Requirement], list[Requirement]]:
    """The project's dependencies, and those of its extra `test`."""
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    run, test = table["dependencies"], table["optional-dependencies"]["test"]
    return [Requirement(line) for line in run], [Requirement(line) for line in test]


def read(path: Path) -> dict[str, str]:
    """Name and version of every line of a lock file; comments and empty lines are skipped."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pairs}


def installed(name: str) -> str | None:
    """The version that is installed, without the part that names a build (`+cpu`)."""
    try:
        return distribution(name).version.partition("+")[0]
    except PackageNotFoundError:
        return None


def findings(run: dict[str, str], test: dict[str, str]) -> Iterator[str]:
    """What is wrong with the two locks, in sentences."""
    run_roots, test_roots = roots()
    for_run, for_all = closure(run_roots), closure([*run_roots, *test_roots])
    locked = {**run, **test}
    yield from (f"{name} is in both locks" for name in sorted(run.keys() & test.keys()))
    yield from (
        f"{name} is needed to run, but not locked" for name in sorted(for_run.keys() - run.keys())
    )
    missing = sorted(for_all.keys() - locked.keys() - for_run.keys())
    yield from (f"{name} is needed for tests, but not locked" for name in missing)
    yield from (
        f"{name} is locked, but nobody needs it" for name in sorted(run.keys() - for_run.keys())
    )
    extra = sorted(test.keys() - for_all.keys())
    yield from (f"{name} is locked for tests, but nobody needs it" for name in extra)
    for name, version in sorted(locked.items()):
        if (here := installed(name)) != version:
            yield f"{name} {version} is locked, but {here or 'nothing'} is installed"
        for by, requirement in for_all.get(name, ()):
            if not requirement.specifier.contains(version, prereleases=True):
                yield f"{name} {version} is locked, but {by} needs {requirement.specifier}"


def write() -> None:
    """Write both locks from what is installed."""
    run_roots, test_roots = roots()
    run = closure(run_roots).keys()
    test = closure([*run_roots, *test_roots]).keys() - run
    for path, names in ((RUN, run), (TEST, test)):
        lines = [f"{name}=={installed(name)}\n" for name in sorted(names) if installed(name)]
        path.write_text("".join(lines), "utf-8", newline="\n")
        print(f"{path.name}: {len(lines)} packages")


def main() -> int:
    """Write the locks if asked to; then check them."""
    if "--write" in sys.argv[1:]:
        write()
    wrong = list(findings(read(RUN), read(TEST)))
    print("\n".join(wrong) or "both locks are complete and match what is installed")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
