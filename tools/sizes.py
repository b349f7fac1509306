"""Size and shape budgets of the source tree (style rule S13), and the table of lines per package.

    python -m tools.sizes [ROOT]    exit status 1 if a budget is broken

A function's length is counted without its docstring. Data tables (`*_table.py`, `layouts/`) may be
of any length, and their rows of any width. A breach is mended, or the budget is changed here with
the reason in the commit.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FUNCTION_P90, FUNCTION_P99, FUNCTION_MAX = 25, 60, 100  # lines
FILE_P90, FILE_MAX = 350, 600  # lines
PARAMETERS, POSITIONAL = 7, 3  # the rest by keyword
# The contracts: sampler(denoise, x, sigmas, noise); stage(passes, request, images, latents).
MORE_POSITIONAL = {"sampling": 4, "tasks": 4}

PACKAGES = {  # lines, data tables not counted
    # Every parameter of six kinds of request with its words, two thousand lines of it; the grammar
    # of prompts; A1111's axes and value lists.
    "core": 5400,
    "sampling": 3500,
    # Three containers and a pickle machine that never imports; every family's names in two
    # layouts; twelve kinds of LoRA in nine dialects; embeddings in six forms; merging.
    "weights": 7500,
    # Beside the diffusion networks: upscalers, detectors, captioners, segmenters and restorers,
    # each a small network or a bridge to a library.
    "engine": 6500,
    "control": 2000,
    # One module for each thing that is done with a picture; the last are previews, by four ways.
    "tasks": 3900,
    "train": 2500,
    # Pictures of every kind read safely; masks, fills and colours; eleven programs' metadata;
    # sheets, pages and comparisons.
    "media": 7200,
    "jobs": 1800,
    # An index, the folders of four other programs, their sidecars; what a picture from elsewhere
    # was made with, among the files here; and `pull`, half of it, which speaks to two sites and
    # trusts neither.
    "library": 5000,
    "server": 2500,
    # S13 says 800. Each verb repeats imports, docstring and decorators, one option a line; and
    # here alone is printed, so that progress, tables and hints for people have no other place.
    "cli": 4100,
}

# The process boundaries: what is caught here is logged, or told to the user, and ends the job.
CATCH_ALL = frozenset(
    {"src/darkroom/jobs/worker.py", "src/darkroom/server/app.py", "src/darkroom/cli/boundary.py"}
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One source file: its path below the root, its lines, its tree."""

    path: Path
    lines: int
    tree: ast.Module

    @property
    def is_table(self) -> bool:
        """Whether the file is data and may be of any length."""
        return self.path.name.endswith("_table.py") or "layouts" in self.path.parts

    @property
    def package(self) -> str:
        """The package below `darkroom` that the file belongs to; empty for the top level."""
        return self.path.parts[2] if len(self.path.parts) > 3 else ""  # src/darkroom/PACKAGE/file

    def functions(self) -> list[tuple[str, Function]]:
        """Every function with the place where it stands."""
        found = (node for node in ast.walk(self.tree) if isinstance(node, Function))
        return [(f"{self.path.as_posix()}:{node.lineno} {node.name}", node) for node in found]


def load(root: Path) -> list[File]:
    """Every Python file below `root/src`."""
    files = []
    for path in sorted((root / "src").rglob("*.py")):
        text = path.read_text("utf-8")
        files.append(
            File(path=path.relative_to(root), lines=len(text.splitlines()), tree=ast.parse(text))
        )
    return files


def length(node: Function) -> int:
    """Lines of a function, without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def percentile(values: list[int], share: float) -> int:
    """The value that `share` of the values do not exceed; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0


def own_parameters(node: Function) -> tuple[int, int]:
    """How many parameters a function has, and how many of them by position; `self` is none."""
    positional = [*node.args.posonlyargs, *node.args.args]
    if positional and positional[0].arg in ("self", "cls"):
        positional = positional[1:]
    return len(positional) + len(node.args.kwonlyargs), len(positional)


def shapes(file: File) -> Iterator[str]:
    """Breaches within one file, in sentences."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Global):
            yield f"{file.path.as_posix()}:{node.lineno}: `global`"
    if file.lines > FILE_MAX and not file.is_table:
        yield f"{file.path.as_posix()}: {file.lines} lines, {FILE_MAX} at most"
    for place, function in file.functions():
        total, positional = own_parameters(function)
        if (lines := length(function)) > FUNCTION_MAX:
            yield f"{place}: {lines} lines, {FUNCTION_MAX} at most"
        if total > PARAMETERS:
            yield f"{place}: {total} parameters, {PARAMETERS} at most"
        allowed = MORE_POSITIONAL.get(file.package, POSITIONAL)
        if positional > allowed and not file.is_table:
            yield f"{place}: {positional} by position; keyword-only after {allowed}"
    handlers = [node for node in ast.walk(file.tree) if isinstance(node, ast.ExceptHandler)]
    if file.path.as_posix() not in CATCH_ALL:
        for handler in filter(catches_all, handlers):
            yield f"{file.path.as_posix()}:{handler.lineno}: catches everything outside a boundary"


def catches_all(node: ast.ExceptHandler) -> bool:
    """Whether `node` catches every exception there is."""
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(
        each is None or (isinstance(each, ast.Name) and each.id in ("Exception", "BaseException"))
        for each in caught
    )


def findings(files: list[File]) -> Iterator[str]:
    """Every budget that is broken, in sentences."""
    functions = [length(node) for file in files for _, node in file.functions()]
    lines = [file.lines for file in files if not file.is_table]
    for name, values, share, budget in (
        ("functions", functions, 0.9, FUNCTION_P90),
        ("functions", functions, 0.99, FUNCTION_P99),
        ("files", lines, 0.9, FILE_P90),
    ):
        if (value := percentile(values, share)) > budget:
            yield f"{name}: p{share * 100:.0f} is {value} lines, {budget} at most"
    for package, (size, _) in by_package(files).items():
        if size > PACKAGES.get(package, size):
            yield f"{package}: {size} lines, {PACKAGES[package]} at most"
    for file in files:
        yield from shapes(file)


def by_package(files: list[File]) -> dict[str, tuple[int, int]]:
    """Lines of code and lines of data tables, by package."""
    sizes: dict[str, tuple[int, int]] = {}
    for file in files:
        code, table = sizes.get(file.package, (0, 0))
        sizes[file.package] = (
            (code, table + file.lines) if file.is_table else (code + file.lines, table)
        )
    return sizes


def table(files: list[File], test_lines: int = 0) -> str:
    """Lines per package against the budget, function and file sizes, the share of tests."""
    sizes = by_package(files)
    rows = [f"{'package':<12}{'lines':>8}{'budget':>8}{'tables':>8}"]
    for package, (code, data) in sorted(sizes.items()):
        budget = PACKAGES.get(package, "")
        rows.append(f"{package or '(top)':<12}{code:>8}{budget:>8}{data or '':>8}")
    functions = [length(node) for file in files for _, node in file.functions()]
    lines = [file.lines for file in files if not file.is_table]
    total = sum(code for code, _ in sizes.values())
    rows.append(f"{'total':<12}{total:>8}")
    rows.append(f"{'tests':<12}{test_lines:>8}  ({test_lines / max(total, 1):.2f} of the code)")
    rows.append(
        f"{len(functions)} functions: p90 {percentile(functions, 0.9)}, "
        f"p99 {percentile(functions, 0.99)}, longest {max(functions, default=0)}; "
        f"{len(files)} files: p90 {percentile(lines, 0.9)}, longest {max(lines, default=0)}"
    )
    return "\n".join(rows)


def main() -> int:
    """Print the table and the breaches."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    files = load(root)
    wrong = list(findings(files))
    tests = sum(len(path.read_text("utf-8").splitlines()) for path in root.glob("tests/**/*.py"))
    print("\n".join([table(files, tests), *wrong]))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
