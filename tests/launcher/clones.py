"""A clone of the launcher in a folder of its own, with stand-ins for Python and nothing else on PATH."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

# All the programs that the launcher may call. (A test that needs one to be absent removes it.)
PROGRAMS = (
    *("sh", "awk", "cat", "cksum", "cmp", "cp", "df", "find", "grep", "ls", "mkdir", "mv", "ps"),
    *("readlink", "rm", "rmdir", "sed", "sleep", "tail", "tr", "uname"),
)

PYTHON = """#!/bin/sh
# A stand-in for Python: does what the launcher asks of it, and notes how it was called.
while [ "$1" = -I ] || [ "$1" = -P ]; do shift; done
case "$1 $2" in
  "-c "*ensurepip*)
    echo "${STUB_VERSION:-3.11.9} ${STUB_VERDICT:-good} $0"
    exit ;;
  "-c "*) echo "first start" >>"$STUB_LOG" ;;
  "-m venv")
    echo venv >>"$STUB_LOG"
    mkdir -p "$3/bin" "$3/lib/python3.11/site-packages"
    cp "$0" "$3/bin/python"
    printf '#!%s\\n' "$3/bin/python" >"$3/bin/tool" ;;
  "-m pip")
    case "$*" in *" install "*)
      echo "$*" | sed 's/.* install/install/' >>"$STUB_LOG"
      tries=3000 # five minutes: nothing is left running by a test that failed
      until [ -z "${STUB_WAITS_FOR-}" ] || [ -e "$STUB_WAITS_FOR" ] || [ $tries = 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
      done
      if [ -n "${STUB_FAILURE-}" ]; then echo "$STUB_FAILURE"; exit 1; fi ;;
    esac ;;
  *) echo "$PYTHONPATH|$*" ;;
esac
"""


@dataclass
class Clone:
    """A copy of what the launcher needs, and how to start it."""

    folder: Path
    programs: Path
    log: Path
    run_as: dict[str, int] = field(default_factory=dict)  # user and group; ours if empty

    def command(self, **environment: str) -> dict[str, object]:
        """Arguments for subprocess: a hermetic environment, text in and out."""
        values = {
            "PATH": str(self.programs),
            "HOME": str(self.folder.parent / "home"),
            "STUB_LOG": str(self.log),
            **environment,
        }
        pipe = subprocess.PIPE
        return {"env": values, "stdout": pipe, "stderr": pipe, "encoding": "utf-8", **self.run_as}

    def start(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the launcher to its end."""
        return subprocess.run(
            [self.folder / "darkroom", *arguments], timeout=250, **self.command(**environment)
        )

    def launch(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the launcher, in a process group of its own; see `told` for what it says."""
        with self.says.open("ab") as says:
            return subprocess.Popen(
                [self.folder / "darkroom", *arguments],
                start_new_session=True,
                **self.command(**environment) | {"stderr": says},
            )

    @property
    def says(self) -> Path:
        """Where launched launchers write their standard error."""
        return self.log.with_name("says.txt")

    def told(self, words: str) -> int:
        """How often launched launchers said these words."""
        return self.says.read_text("utf-8").count(words)

    def calls(self) -> list[str]:
        """What the stand-ins were asked to do, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def installs(self) -> int:
        """How often pip was asked to install."""
        return sum(call.startswith("install") for call in self.calls())


def make_clone(place: Path, name: str = "clone") -> Clone:
    """A clone below `place`."""
    folder, programs = place / name, place / "programs"
    (folder / "src").mkdir(parents=True)
    programs.mkdir()
    for file in ("darkroom", "requirements.lock", "requirements-test.lock"):
        shutil.copy(ROOT / file, folder / file)
    for program in PROGRAMS:
        if found := shutil.which(program):
            (programs / program).symlink_to(os.path.realpath(found))
    add_program(programs / "python3.11", PYTHON)
    return Clone(folder=folder, programs=programs, log=place / "calls.txt")


def add_program(path: Path, text: str) -> None:
    """Write a script that can be started."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)
