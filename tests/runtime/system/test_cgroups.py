"""cgroups.py, with the files of made-up systems, and with real groups where the machine lets us make some."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge_embed_runtime.system.cgroups import cpu_quota, memory_limit

Lay = Callable[[dict[str, str]], Path]
V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup rw\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """Writes files of a system, and gives its root."""

    def write(files: dict[str, str]) -> Path:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("max 100000\n", None),
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("50000\n", None),
        ("1 2 3\n", None),
        ("-1 100000\n", None),
        ("100000 0\n", None),
        ("0 100000\n", None),
        (f"{'9' * 5000} 100000\n", None),
        ("²000 100000\n", None),
        ("garbage\n", None),
        ("", None),
    ],
)
def test_quota(text: str, quota: float | None, lay: Lay) -> None:
    """Of version 2, in cores; what is no pair of numbers is no quota."""
    assert cpu_quota(lay({"proc/self/mountinfo": V2, "sys/fs/cgroup/cpu.max": text})) == quota


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("250000\n", "100000\n", 2.5), ("-1\n", "100000\n", None), ("250000\n", "0\n", None), ("250000\n", "", None)],
)
def test_quota_of_version_1(quota: str, period: str, cores: float | None, lay: Lay) -> None:
    """The quota and its period are files of their own; -1 means none."""
    root = {"proc/self/mountinfo": V1, "proc/self/cgroup": "3:cpu,cpuacct:/\n"}
    tree = "sys/fs/cgroup/cpu,cpuacct/"
    assert cpu_quota(lay({**root, tree + "cpu.cfs_quota_us": quota, tree + "cpu.cfs_period_us": period})) == cores


def test_garbage_bytes_set_no_limit(tmp_path: Path) -> None:
    """Files that are no text, or folders where files should be, are passed over."""
    group = tmp_path / "sys/fs/cgroup"
    (group / "cpu.max").mkdir(parents=True)
    (group / "memory.max").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_bytes(b"\xff\n::\n0\n0::no/slash\n")
    (tmp_path / "proc/self/mountinfo").write_bytes(V2.encode() + b"\xff - cgroup2\n1 2 - cgroup2 a rw\n")
    assert (cpu_quota(tmp_path), memory_limit(tmp_path)) == (None, None)


def test_nothing_at_all(tmp_path: Path) -> None:
    """A system without /proc and /sys sets no limit."""
    assert (cpu_quota(tmp_path), memory_limit(tmp_path)) == (None, None)


def test_the_tightest_of_the_groups_around(lay: Lay) -> None:
    """The process's own group, those around it and the root count; one beside it does not."""
    group = "sys/fs/cgroup"
    system = lay(
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/a/b\n",
            f"{group}/a/b/memory.max": "max\n",
            f"{group}/a/b/cpu.max": "300000 100000\n",
            f"{group}/a/memory.max": "104857600\n",
            f"{group}/memory.max": "209715200\n",
            f"{group}/cpu.max": "400000 100000\n",
            f"{group}/a/beside/memory.max": "1\n",
            f"{group}/a/beside/cpu.max": "1 100000\n",
        }
    )
    assert (cpu_quota(system), memory_limit(system)) == (3.0, 104_857_600)


def test_version_1_has_a_tree_for_each_controller(lay: Lay) -> None:
    """Each controller's own group is looked up in its own tree, also beside a tree of version 2 that has neither."""
    system = lay(
        {
            "proc/self/mountinfo": V1,
            "proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/c/d\n1:name=systemd:/s\nbroken\n0::/s\n",
            "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "52428800\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/c/memory.limit_in_bytes": "1\n",
            "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/c/d/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/c/d/cpu.cfs_period_us": "100000\n",
        }
    )
    assert (cpu_quota(system), memory_limit(system)) == (0.5, 52_428_800)


def test_a_hybrid_system_may_limit_in_either_version(lay: Lay) -> None:
    """Memory by version 1, cores by the tree of version 2 that is mounted beside."""
    system = lay(
        {
            "proc/self/mountinfo": V1,
            "proc/self/cgroup": "4:memory:/m\n0::/u\n",
            "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "52428800\n",
            "sys/fs/cgroup/unified/u/cpu.max": "200000 100000\n",
        }
    )
    assert (cpu_quota(system), memory_limit(system)) == (2.0, 52_428_800)


@pytest.mark.parametrize(
    ("group", "root"),
    [
        ("/docker/7", "/docker/7"),  # no namespace: the container's group is what is mounted
        ("/", "/"),  # a namespace whose root is the container's group
        ("/docker/7", "/"),  # the folder is not there: the mount comes from elsewhere
        ("/../..", "/"),  # the process was moved out of the namespace
        ("/../8", "/.."),  # the mount is seen from inside a namespace
        ("/gone (deleted)", "/"),
        ("/docker/7", "/docker/70"),  # another group's, and the only one
    ],
)
def test_views_of_a_container(group: str, root: str, lay: Lay) -> None:
    """Where the group's own folder cannot be found, what is mounted counts."""
    mounts = f"32 31 0:29 {root} /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"
    files = {"proc/self/mountinfo": mounts, "proc/self/cgroup": f"0::{group}\n"}
    assert cpu_quota(lay({**files, "sys/fs/cgroup/cpu.max": "200000 100000\n"})) == 2.0


def test_a_group_inside_a_container(lay: Lay) -> None:
    """What is mounted is a part of the tree: the rest of the group's name is a folder in it; names may be escaped."""
    system = lay(
        {
            "proc/self/mountinfo": "1 2 0:29 /docker/a\\040b /sys/fs/c\\040g ro - cgroup cgroup rw,cpu\n",
            "proc/self/cgroup": "2:cpu:/docker/a b/inner\n",
            "sys/fs/c g/inner/cpu.cfs_quota_us": "100000\n",
            "sys/fs/c g/inner/cpu.cfs_period_us": "100000\n",
        }
    )
    assert cpu_quota(system) == 1.0


def test_a_mount_of_another_group_does_not_count(lay: Lay) -> None:
    """Monitors mount other containers' groups beside their own."""
    system = lay(
        {
            "proc/self/mountinfo": "1 2 0:29 /docker/8 /other ro - cgroup2 c rw\n"
            "3 2 0:29 /docker/7 /own ro - cgroup2 c rw\n",
            "proc/self/cgroup": "0::/docker/7\n",
            "other/memory.max": "1000\n",
            "own/memory.max": "5000\n",
        }
    )
    assert memory_limit(system) == 5000


@pytest.mark.parametrize(
    "file", ["cgroup/cpu.max", "cgroup/a/cpu.max", "cgroup/unified/a/cpu.max", "cgroup/cpu/c/cpu.cfs_quota_us"]
)
def test_customary_places(file: str, lay: Lay) -> None:
    """Where mounts are not told, trees are looked for where they are by custom."""
    text = "200000\n" if file.endswith("us") else "200000 100000\n"
    files = {"proc/self/cgroup": "3:cpu,cpuacct:/c\n0::/a\n", "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000\n"}
    assert cpu_quota(lay({**files, f"sys/fs/{file}": text})) == 2.0


def real_group(tree: Path, probe: str) -> Path:
    """A new group below the one of this process; skips where none can be made that limits."""
    folder = tree / f"edge_embed_{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made in {tree}: {error}")
    if not (folder / probe).exists():
        folder.rmdir()
        pytest.skip(f"{tree} does not hand {probe} to groups below it")
    return folder


def own_group(line: str, tree: str) -> Path:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        pytest.skip("no cgroups here")
    groups = [text.split(":", 2)[2] for text in lines if line in text]
    if not groups:
        pytest.skip(f"no cgroup {line} here")
    return Path(tree + groups[0].rstrip("/"))


@pytest.fixture
def version_1() -> Iterator[Path]:
    yield from nested(real_group(own_group(":cpu", "/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us"))


@pytest.fixture
def version_2() -> Iterator[Path]:
    yield from nested(real_group(own_group("0::", "/sys/fs/cgroup"), "cpu.max"))


def nested(outer: Path) -> Iterator[Path]:
    """A group in the group, for the process."""
    inner = outer / "inner"
    inner.mkdir()
    try:
        yield inner
    finally:
        for folder in (inner, outer):
            with suppress(OSError):
                folder.rmdir()


def threads_within(group: Path) -> int:
    """What a process of that group takes for its cores, on a machine that seems to have 64."""
    program = f"""
import os
open({str(group / "cgroup.procs")!r}, "w").write(str(os.getpid()))
from edge_embed_runtime.system import cpu as machine
os.sched_getaffinity = lambda _: set(range(64))
machine.physical_cores = lambda _: None
print(machine.default_threads())
"""
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def test_real_group_of_version_1(version_1: Path) -> None:
    """A quota of the group around the process's own is seen."""
    (version_1.parent / "cpu.cfs_period_us").write_text("100000")
    (version_1.parent / "cpu.cfs_quota_us").write_text("250000")
    assert threads_within(version_1) == 3
    (version_1 / "cpu.cfs_quota_us").write_text("50000")
    assert threads_within(version_1) == 1


def test_real_group_of_version_2(version_2: Path) -> None:
    """A quota of the group around the process's own is seen."""
    (version_2.parent / "cpu.max").write_text("250000 100000")
    assert threads_within(version_2) == 3
