"""Memory of the machine, and of the container that we run in."""

from darkroom.engine import host_memory as host_memory_module
from darkroom.engine.device import choose_device
from darkroom.engine.host_memory import GIB, Memory, host_memory


def linux(root, groups, files, available=6 * GIB, total=8 * GIB):
    """A file system with /proc and control groups."""
    tree = {
        "proc/meminfo": f"MemTotal: {total >> 10} kB\nMemFree: 9 kB\nMemAvailable: {available >> 10} kB\nHugePages_Total: 0\n",
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return host_memory_module._linux_memory(root)


def test_memory_of_this_machine():
    memory = choose_device("cpu").memory()
    assert 0 < memory.free <= memory.total
    assert memory.total > GIB // 2
    assert host_memory().total == memory.total


def test_memory_without_containers(tmp_path):
    assert linux(tmp_path, "0::/user.slice\n", {}) == Memory(6 * GIB, 8 * GIB)


def test_memory_in_a_container_of_cgroups_2(tmp_path):
    files = {
        "memory.max": f"{4 * GIB}\n",
        "memory.current": f"{3 * GIB}\n",
        "memory.stat": f"anon 1\ninactive_file {GIB}\nactive_file 5\n",
    }
    assert linux(tmp_path, "0::/\n", files) == Memory(2 * GIB, 4 * GIB)


def test_the_tightest_group_above_us_counts(tmp_path):
    files = {
        "a/memory.max": f"{2 * GIB}\n",
        "a/memory.current": f"{GIB}\n",
        "a/b/memory.max": "max\n",
        "a/b/memory.current": "5\n",
    }
    assert linux(tmp_path, "0::/a/b\n", files) == Memory(GIB, 2 * GIB)


def test_memory_in_a_container_of_cgroups_1(tmp_path):
    files = {
        "memory/memory.limit_in_bytes": f"{GIB}\n",
        "memory/memory.usage_in_bytes": f"{2 * GIB}\n",
        "memory/memory.stat": f"cache 3\ntotal_inactive_file {GIB // 2}\n",
    }
    groups = "4:memory:/docker/not-mounted-here\n2:cpu,cpuacct:/\n0::/\n"
    assert linux(tmp_path, groups, files) == Memory(0, GIB)


def test_unlimited_groups_do_not_count(tmp_path):
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.usage_in_bytes": "5\n",
    }
    assert linux(tmp_path, "4:memory:/\n", files) == Memory(6 * GIB, 8 * GIB)


def test_systems_without_proc(monkeypatch):
    def absent():
        raise FileNotFoundError

    monkeypatch.setattr(host_memory_module, "_linux_memory", absent)
    assert host_memory().total > GIB // 2  # from sysconf: half of it counts as free
    monkeypatch.setattr(host_memory_module, "_posix_memory", absent)
    assert host_memory() == Memory(2 * GIB, 4 * GIB)
