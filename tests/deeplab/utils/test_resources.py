"""Memory and cores that this process may use: control groups of both versions, affinity, and a real limit."""

import os
import sys

import pytest

from deeplab.utils import resources


@pytest.fixture
def groups(tmp_path):
    """A function that makes control groups, and returns the bytes that their limits leave."""

    def left(membership, version, **folders):
        (tmp_path / "cgroup").write_text(membership)
        names = (
            ("memory.max", "memory.current", "inactive_file")
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        for folder, (limit, usage, cached) in folders.items():
            place = tmp_path / ("fs" if version == 2 else "fs/memory") / folder.replace("_", "/")
            place.mkdir(parents=True, exist_ok=True)
            (place / names[0]).write_text(f"{limit}\n")
            (place / names[1]).write_text(f"{usage}\n")
            (place / "memory.stat").write_text(f"anon 7\n{names[2]} {cached}\n")
        return resources._memory_left_in_groups(str(tmp_path / "fs"), str(tmp_path / "cgroup"))

    return left


@pytest.mark.parametrize("version, own", [(2, "0::/a/b\n"), (1, "5:cpu:/a\n4:hugetlb,memory:/a/b\n0::/\n")])
def test_the_smallest_limit_of_a_group_and_those_above_it_counts(groups, version, own):
    assert groups(own, version) is None
    no_limit = "max" if version == 2 else 2**63 - 4096
    found = groups(own, version, a_b=(no_limit, 300, 0))
    assert found is None if version == 2 else found > 2**62
    assert groups(own, version, a=(1000, 300, 100)) == 800  # cached files can be given back
    assert groups(own, version, a_b=(500, 300, 0)) == 200
    assert groups(own, version, a_b=(500, 600, 0)) == 0


@pytest.mark.parametrize("version, own", [(2, "0::/../elsewhere\n"), (1, "4:memory:/docker/0123\n")])
def test_a_container_sees_its_own_group_at_the_top(groups, version, own):
    assert groups(own, version, **{"": (1000, 300, 0)}) == 700


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert resources._memory_left_in_groups(str(tmp_path), str(tmp_path / "missing")) is None


def quota_of(folder, membership, **files):
    """The cores that quotas allow; `files` are paths with `__` between folders, and their contents."""
    (folder / "cgroup").write_text(membership)
    for name, text in files.items():
        path = folder.joinpath("fs", *name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.replace("cpu_max", "cpu.max").replace("cpu_cfs", "cpu.cfs")).write_text(text)
    return resources._cores_of_groups(str(folder / "fs"), str(folder / "cgroup"))


def test_the_smallest_quota_of_a_group_and_those_above_it_counts(tmp_path):
    own = "0::/a/b\n"
    assert quota_of(tmp_path, own) is None
    assert quota_of(tmp_path, own, a__b__cpu_max="max 100000\n") is None
    assert quota_of(tmp_path, own, a__cpu_max="150000 100000\n") == 1.5
    assert quota_of(tmp_path, own, a__b__cpu_max="50000 50000\n") == 1
    assert quota_of(tmp_path, own, a__b__cpu_max="strange\n") == 1.5
    assert quota_of(tmp_path, "0::/../elsewhere\n", cpu_max="300000 100000\n") == 3  # a container


def test_a_quota_of_version_1(tmp_path):
    own = "4:memory:/x\n3:cpu,cpuacct:/a\n0::/\n"
    period = {"cpu__a__cpu_cfs_period_us": "100000\n"}
    assert quota_of(tmp_path, own, cpu__a__cpu_cfs_quota_us="-1\n", **period) is None
    assert quota_of(tmp_path, own, cpu__a__cpu_cfs_quota_us="250000\n", **period) == 2.5


@pytest.mark.parametrize("quota, expected", [(None, 8), (0.2, 1), (1.5, 2), (2.0, 2), (64.0, 8)])
def test_cores_are_those_of_the_affinity_within_the_quota(monkeypatch, quota, expected):
    monkeypatch.setattr(resources, "visible_core_count", lambda: 8)
    monkeypatch.setattr(resources, "_cores_of_groups", lambda: quota)
    assert resources.core_count() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_cores_of_the_affinity_mask(monkeypatch):
    monkeypatch.setattr(resources, "_cores_of_groups", lambda: None)
    allowed = os.sched_getaffinity(0)
    assert resources.core_count() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert resources.core_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_without_affinity_masks(monkeypatch):
    """As on macOS and Windows."""
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert resources.core_count() == 1


def test_the_smaller_of_both_limits_is_available(monkeypatch):
    for system, groups, expected in ((5, 3, 3), (3, 5, 3), (None, 4, 4), (4, None, 4), (None, None, None)):
        monkeypatch.setattr(resources, "_free_in_system", lambda system=system: system)
        monkeypatch.setattr(resources, "_memory_left_in_groups", lambda groups=groups: groups)
        assert resources.available_memory() == expected


def test_what_the_system_tells():
    for number in (resources.available_memory(), resources.used_memory()):
        assert number is None or number > 0
    if sys.platform == "linux":
        assert resources.used_memory() > 1 << 20
