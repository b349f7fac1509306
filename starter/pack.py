"""Collect what a machine without a network needs, in one archive, and open it there.

    starter/make pack                                     # here: .work/pack.tar
    starter/make --recipe gpu256 --pack pack.tar          # there: opens it, runs every stage

In it are the pictures of our objects only (the flat ones drawn to PNG, so that nothing needs an SVG
renderer), in the places where the packages have them; the compact vocabulary; and the few Python
packages that a machine with PyTorch may lack, as wheels. Sprites are made there.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from starter.objects_table import OBJECTS
from starter.recipe import PACKAGES, ROOT, WORK
from starter.sprites import DRAWN, picture, source

PACK = WORK / "pack.tar"
PYTHON = "3.12"  # of the other machine
SYSTEMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
WHEELS = {  # distribution -> the package that tells whether it is there
    "diffusers": "diffusers",
    "importlib-metadata": "importlib_metadata",
    "lazy-importer": "lazy_importer",
    "zipp": "zipp",
    "platformdirs": "platformdirs",
    "pydantic": "pydantic",
    "pydantic-core": "pydantic_core",
    "annotated-types": "annotated_types",
    "typing-inspection": "typing_inspection",
    "regex": "regex",
    "requests": "requests",
    "urllib3": "urllib3",
    "certifi": "certifi",
    "idna": "idna",
    "charset-normalizer": "charset_normalizer",
}
UNUSED = ("diffusers/pipelines/", "diffusers/modular_pipelines/")  # two thirds of it
SITE = WORK / "site"  # where missing packages are opened


def _locked() -> dict[str, str]:
    """Return the versions that Darkroom itself is installed with."""
    lines = (ROOT.parent / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and line[0] != "#")


def _fetch_wheels(folder: Path) -> None:
    """Download the wheels for the other machine, once."""
    versions = _locked()
    folder.mkdir(parents=True, exist_ok=True)
    for name in WHEELS:
        stem = f"{name.replace('-', '_')}-{versions[name]}-"
        if any(path.name.lower().startswith(stem) for path in folder.glob("*.whl")):
            continue
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
        command += [part for system in SYSTEMS for part in ("--platform", system)]
        command += ["-d", str(folder), f"{name}=={versions[name]}"]
        subprocess.run(command, check=True)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _lean(wheel: Path) -> bytes:
    """Return a wheel without what no stage imports."""
    store = io.BytesIO()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(store, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            if not entry.filename.startswith(UNUSED):
                new.writestr(entry, old.read(entry), zipfile.ZIP_DEFLATED, 9)
    return store.getvalue()


def _png(path: Path) -> bytes:
    store = io.BytesIO()
    picture(path, DRAWN).save(store, "PNG", optimize=True)
    return store.getvalue()


def pack(target: Path) -> None:
    """Write the archive."""
    wheels = PACKAGES / "wheels"
    _fetch_wheels(wheels)
    part = target.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        for thing in OBJECTS:
            for style in ("3d", "flat"):
                path = source(thing, style)
                name = path.relative_to(WORK)
                if path.suffix == ".svg":
                    _add(tar, name.with_suffix(".png").as_posix(), _png(path))
                else:
                    _add(tar, name.as_posix(), path.read_bytes())
        vocabulary = WORK / "vocabulary.json"
        if vocabulary.exists():
            _add(tar, vocabulary.name, vocabulary.read_bytes())
        versions = _locked()
        for path in sorted(wheels.glob("*.whl")):
            if any(f"-{versions[name]}-" in path.name for name in WHEELS):
                _add(tar, f"packages/wheels/{path.name}", _lean(path))
    part.replace(target)
    print(f"{target.name}: {target.stat().st_size / 2**20:.1f} MiB", flush=True)


def unpack(archive: Path) -> None:
    """Open the archive into the work folder, and what Python lacks into SITE."""
    WORK.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        absent = [each for each in tar.getmembers() if not (WORK / each.name).exists()]
        tar.extractall(WORK, members=absent, filter="data")
    for name, package in WHEELS.items():
        if find_spec(package) is None:
            for wheel in (PACKAGES / "wheels").glob(f"{name.replace('-', '_')}-*.whl"):
                with zipfile.ZipFile(wheel) as opened:
                    opened.extractall(SITE)  # noqa: S202 - our own wheels
                print(f"{package}: from the pack", flush=True)
    (PACKAGES / ".packed").touch()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", type=Path, metavar="FILE", help="open this archive instead")
    options = parser.parse_args()
    if options.open:
        unpack(options.open)
    else:
        pack(PACK)


if __name__ == "__main__":
    main()
