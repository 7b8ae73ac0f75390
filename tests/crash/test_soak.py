"""A little of what `make soak` does for an hour."""

import sys

import pytest

from crash import soak

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="/proc and select() on a pipe")]


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("soak") / "soak.db"
    return soak.soak(path, seconds=6, callers=6, workers=2, quiet=True)


def test_under_load_no_caller_sees_an_error_and_no_job_is_lost(figures):
    assert figures.jobs > 0
    assert figures.broken(timed=False) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"errors": ["locked"]},
        {"codes": [1]},
        {"ended": 0},
        {"left": 1},
        {"integrity": ["page 7"]},
        {"largest_wal": 1 << 30},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_promise_that_is_not_kept_is_named(figures, wrong):
    assert len(figures._replace(**wrong).broken(timed=False)) == 1


def test_times_and_growth_count_in_a_long_run(figures):
    slow = figures._replace(p99=0.2, growth=1 << 30)
    assert len(slow.broken(timed=True)) == 2
    assert slow.broken(timed=False) == []
