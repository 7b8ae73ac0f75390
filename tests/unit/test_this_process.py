"""The cores that this process may use, by affinity and cgroups, and its memory."""

import mmap
import sys

import pytest

from litequeue.ipc import this_process
from litequeue.ipc.this_process import resident_memory, usable_cores
from litequeue.worker_options import run_options

pytestmark = pytest.mark.skipif(not hasattr(sys.modules["os"], "sched_getaffinity"), reason="cgroups are of Linux")


@pytest.fixture
def cores(tmp_path, monkeypatch):
    """Return the cores on a machine with 16, where these lines stand in /proc/self/cgroup and these files exist."""
    monkeypatch.setattr(this_process.os, "sched_getaffinity", lambda _pid: set(range(16)))

    def cores(memberships, **files):
        for path, text in files.items():
            file = tmp_path / "cgroup" / path.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (tmp_path / "self").write_text(memberships)
        return usable_cores(tmp_path / "cgroup", tmp_path / "self")

    return cores


def test_without_a_quota_the_affinity_counts(cores):
    assert cores("0::/\n", cpu_dot_max="max 100000\n") == 16


def test_a_quota_of_cgroup_v2_counts_and_is_rounded_up(cores):
    assert cores("0::/\n", cpu_dot_max="250000 100000\n") == 3


def test_the_smallest_quota_of_the_groups_around_counts(cores):
    files = {"a__cpu_dot_max": "200000 100000\n", "a__b__cpu_dot_max": "max 100000\n"}
    assert cores("0::/a/b\n", **files) == 2


def test_a_quota_of_cgroup_v1_counts(cores):
    files = {"cpu,cpuacct__job__cpu.cfs_quota_us": "50000\n", "cpu,cpuacct__job__cpu.cfs_period_us": "100000\n"}
    assert cores("3:cpu,cpuacct:/job\n0::/\n", **files) == 1


def test_no_quota_of_cgroup_v1_is_none(cores):
    files = {"cpu__cpu.cfs_quota_us": "-1\n", "cpu__cpu.cfs_period_us": "100000\n"}
    assert cores("3:cpu:/only/the/host/sees/it\n", **files) == 16


def test_without_such_files_the_affinity_counts(cores):
    assert cores("no cgroups here".replace(" ", ":")) == 16
    assert cores("") == 16


@pytest.mark.parametrize(("count", "threads"), [(1, 5), (8, 12), (100, 32)])
def test_auto_is_four_more_and_at_most_32(count, threads, monkeypatch):
    monkeypatch.setattr("litequeue.worker_options.usable_cores", lambda: count)
    assert run_options({"threads": "auto"}).threads == threads


def test_the_resident_memory_is_that_of_this_process():
    before = resident_memory()
    with mmap.mmap(-1, 50_000_000) as kept:  # not of the heap, where as much may be free, and resident, already
        for page in range(0, len(kept), mmap.PAGESIZE):
            kept[page] = 1
        assert resident_memory() - before > 0.8 * len(kept)


def test_a_system_that_does_not_tell_is_refused(monkeypatch):
    monkeypatch.setattr("litequeue.worker_options.resident_memory", lambda: None)
    with pytest.raises(ValueError, match="install psutil"):
        run_options({"max_memory": "500MB"})


def test_a_limit_below_what_the_process_holds_is_refused():
    with pytest.raises(ValueError, match="no more than this process holds before its first job"):
        run_options({"max_memory": "1MB"})
