"""Memory of the machine, of the container where there is one; in bytes.

    host_memory() -> Memory(free, total)

Without a package for it: each system is asked in its own way, and the first that answers counts.
"""

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; `free` counts what torch holds and can use again."""

    free: int
    total: int


def host_memory() -> Memory:
    """Memory of this machine or, where it is less, of the container that we run in."""
    for ask in (_linux_memory, _windows_memory, _mac_memory, _posix_memory):
        try:
            return ask()
        except (OSError, ValueError, KeyError, AttributeError):
            continue
    return Memory(2 * GIB, 4 * GIB)  # nobody knows: assume little


def _linux_memory(root: Path = Path("/")) -> Memory:
    lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    info = {key: int(value.split()[0]) << 10 for key, _, value in (s.partition(":") for s in lines)}
    free, total = info["MemAvailable"], info["MemTotal"]
    for limit, used in _cgroup_limits(root):
        free, total = min(free, max(0, limit - used)), min(total, limit)
    return Memory(free, total)


# Per version of Linux's control groups: mount, limit, use, and what the kernel can take back of it.
_CGROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _cgroup_limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) of every control group that we are in and that has a limit."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if (names := _CGROUPS.get(controllers)) is None:
            continue
        mount, limit_file, used_file, cache_key = names
        top = root / "sys/fs/cgroup" / mount
        # Inside a container the path may be that of the host, which is not mounted: then only the
        # top is there, and it is the container's own group.
        group = top / path.strip("/")
        for folder in (group, *(p for p in group.parents if p == top or top in p.parents)):
            limit, used = _text(folder / limit_file).strip(), _text(folder / used_file).strip()
            if limit.isdecimal() and used.isdecimal():
                cache = re.search(rf"(?m)^{cache_key} (\d+)", _text(folder / "memory.stat"))
                yield int(limit), int(used) - (int(cache[1]) if cache else 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


class _WindowsMemory(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("total", "free", "a", "b", "c", "d", "e")),
    )


def _windows_memory() -> Memory:
    status = _WindowsMemory(length=ctypes.sizeof(_WindowsMemory))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - not there for Linux's type checker
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx failed")
    return Memory(status.free, status.total)


def _mac_memory() -> Memory:
    if platform.system() != "Darwin":
        raise OSError("not a Mac")
    libc = ctypes.CDLL(None)

    def ask(name: str) -> int:
        value, size = ctypes.c_uint64(0), ctypes.c_size_t(8)
        if libc.sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0):
            raise OSError(name)
        return value.value

    # Pages that are free, that programs offered to give up, and copies of files.
    pages = ("vm.page_free_count", "vm.page_purgeable_count", "vm.page_pageable_external_count")
    return Memory(sum(map(ask, pages)) * ask("hw.pagesize"), ask("hw.memsize"))


def _posix_memory() -> Memory:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Memory(total // 2, total)
