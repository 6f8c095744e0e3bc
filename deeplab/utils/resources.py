"""Tells how much memory and how many processor cores this process may use.

Owns the limits of the system, of control groups (containers, batch systems, services) and of the affinity mask. Called
by everything that sizes itself to the machine: threads, caches, recipes, probes of model files, reports. It sets no
limit and keeps nothing: each call asks the system again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

_ROOT, _MEMBERSHIP = "/sys/fs/cgroup", "/proc/self/cgroup"  # where control groups are mounted, and those of the process
# Files of a control group, and the entry of its memory.stat that counts cached files.
_MEMORY = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}
_MEMORY[2] = ("memory.max", "memory.current", "inactive_file")


def available_memory() -> int | None:
    """Bytes of main memory that this process can have now; None where the system does not tell."""
    limits = [_free_in_system(), _memory_left_in_groups()]
    return min((limit for limit in limits if limit is not None), default=None)


def used_memory() -> int | None:
    """Bytes that this process has in main memory; None where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def core_count() -> int:
    """Number of processor cores that this process may use: of its affinity mask, and of the quota of its groups.

    A quota of 1.5 cores counts as 2, since threads can use all of it only together.
    """
    visible, quota = visible_core_count(), _cores_of_groups()
    return visible if quota is None else max(1, min(visible, math.ceil(quota)))


def visible_core_count() -> int:
    """Number of processor cores of the affinity mask; for so many, native libraries start threads at any quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_in_system() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii", errors="replace") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None


# --- Control groups -----------------------------------------------------------------------------------------
# Files as in Linux' documents cgroup-v2, cgroup-v1/memory and scheduler/sched-bwc.


def _memory_left_in_groups(root: str = _ROOT, membership: str = _MEMBERSHIP) -> int | None:
    """Bytes that the limits of all groups leave; None without a limit.

    Memory that only caches files counts as free, as in `MemAvailable`.
    """
    found = [_memory_left_in(*group) for group in _groups("memory", root, membership)]
    return min((left for left in found if left is not None), default=None)


def _cores_of_groups(root: str = _ROOT, membership: str = _MEMBERSHIP) -> float | None:
    """Cores that the quotas of all groups allow; None without a quota."""
    found = [_quota_of(*group) for group in _groups("cpu", root, membership)]
    return min((cores for cores in found if cores is not None), default=None)


def _groups(controller: str, root: str, membership: str) -> Iterator[tuple[str, int]]:
    """Yield the folders of the process's groups and of those above them, each with the version of its files, 1 or 2.

    Each of them may have a limit. A container sees its own group at the top.

    Args:
      controller: of version 1, which has a tree of groups for each.
      root: where control groups are mounted.
      membership: the file that lists the groups of the process.
    """
    try:
        with open(membership, encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for _, controllers, group in (parts for parts in lines if len(parts) == 3):
        if controllers and controller not in controllers.split(","):
            continue
        top, version = (os.path.join(root, controller), 1) if controllers else (root, 2)
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            yield os.path.join(top, *parts[:depth]), version


def _memory_left_in(folder: str, version: int) -> int | None:
    """The limit of one group less its usage; None if it has none, or is not visible in a container."""
    limit, usage, cached = _MEMORY[version]
    try:
        statistics = dict(line.split() for line in _text_in(folder, "memory.stat").splitlines())
        used_bytes = int(_text_in(folder, usage)) - int(statistics.get(cached, 0))
        return max(0, int(_text_in(folder, limit)) - max(0, used_bytes))
    except (OSError, ValueError):  # no limit ("max"), no such file, or another system
        return None


def _quota_of(folder: str, version: int) -> float | None:
    """Processor time per time of one group; None if it has no quota, or is not visible in a container."""
    try:
        if version == 2:
            quota, period = map(int, _text_in(folder, "cpu.max").split())
        else:
            quota, period = (int(_text_in(folder, f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
        return quota / period if quota > 0 and period > 0 else None
    except (OSError, ValueError):  # no quota ("max"), no such file, or another system
        return None


def _text_in(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="ascii") as file:
        return file.read()
