"""What control groups leave to this process: CPU time and memory, of its own group and of every group around it.

A group may be of version 2, where one folder has all files, or of version 1, where each controller has a tree of its
own; both may be mounted. A container often sees a part of a tree only, or not the group that it is in: then what can be
seen counts. Nothing is found on other systems than Linux, and a file that is not understood sets no limit.

https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/
"""

import re
from collections.abc import Iterator
from pathlib import Path

SYSTEM = Path("/")
# Version 1 writes "no limit" as a number near 2 ** 63.
NO_LIMIT = 2**60
# Where trees are by custom, for processes that may not read which are mounted: version 2, then one for each controller.
CUSTOMARY = ("sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/{}")


def cpu_quota(system: Path = SYSTEM) -> float | None:
    """Cores that the tightest group allows, 0.5 for half of one; None without a quota.

    system: where the machine's files are
    """
    pairs = [_read(folder / "cpu.max").split() for folder in _groups("", system)]
    for folder in _groups("cpu", system):
        pairs.append([_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")])
    quotas = [_count(pair[0]) / _count(pair[1]) for pair in pairs if len(pair) == 2 and _count(pair[1])]
    return min((quota for quota in quotas if quota), default=None)


def memory_limit(system: Path = SYSTEM) -> int | None:
    """Bytes that the tightest group allows; None without a limit."""
    limits = [_count(_read(folder / "memory.max")) for folder in _groups("", system)]
    limits += [_count(_read(folder / "memory.limit_in_bytes")) for folder in _groups("memory", system)]
    return min((limit for limit in limits if 0 < limit < NO_LIMIT), default=None)


def _count(text: str) -> int:
    """ "150000" -> 150000; 0 for "max", for -1 and for what is no number."""
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else 0


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _groups(controller: str, system: Path) -> Iterator[Path]:
    """Folders of the group that this process is in and of those around it; controller "" means version 2."""
    group = _own_group(controller, system)
    mounts = list(_mounts(controller, system))
    # a mount of another part of the tree says nothing of this process, unless there is no other
    for root, mount in [one for one in mounts if _is_below(group, one[0])] or mounts[:1]:
        inside = group[len(root.rstrip("/")) :].strip("/") if _is_below(group, root) else ""
        place = mount if ".." in inside.split("/") else mount / inside
        yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(mount))


def _is_below(group: str, root: str) -> bool:
    return f"{group}/".startswith(f"{root.rstrip('/')}/")


def _own_group(controller: str, system: Path) -> str:
    """The group's name in its tree, "/" where that is not told; from lines as 4:cpu,cpuacct:/user/7 and 0::/user/7."""
    for line in _read(system / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, group = rest.partition(":")
        if controller in names.split(","):
            return group if group.startswith("/") else "/"
    return "/"


def _mounts(controller: str, system: Path) -> Iterator[tuple[str, Path]]:
    """Which group is at the root of each mount of a tree, and where it is mounted, from lines as
    30 24 0:26 /docker/7 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct
    """
    mounted = _read(system / "proc/self/mountinfo").splitlines()
    for line in mounted:
        left, _, right = line.partition(" - ")
        places, kinds = left.split(" "), right.split(" ")
        if len(places) < 5 or len(kinds) < 3:
            continue
        if (kinds[0] == "cgroup2") if not controller else (kinds[0] == "cgroup" and controller in kinds[2].split(",")):
            yield _plain(places[3]), system / _plain(places[4]).lstrip("/")
    if not mounted:
        for place in CUSTOMARY[2:] if controller else CUSTOMARY[:2]:
            yield "/", system / place.format(controller)


def _plain(escaped: str) -> str:
    r"""A name in mountinfo: "a\040b" -> "a b"."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), escaped)
