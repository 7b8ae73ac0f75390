"""A little of what `python -m tests.crash.forks` does 200 times."""

import sys

import pytest

from crash import forks

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks by ctypes, looks into /proc")]


def test_forks_in_c_under_load_lose_no_job_that_was_told(database, driver):
    figures = forks.torture(database, forks=12, driver=driver, seed=1)
    assert figures.wrong() == [], figures
    assert figures.told_by_children == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"hung": 1},
        {"stalled": 2},
        {"strange": 1},
        {"lost": 1},
        {"unfinished": 1},
        {"deleted_held": 1},
        {"integrity": ("page 7",)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_is_wrong_is_named(wrong):
    fine = forks.Figures(1.0, 9, 9, 0, 9, 0, 0, 0, 0, 0, 0, ())
    assert fine.wrong() == []
    assert fine._replace(**wrong).wrong() == [next(iter(wrong))]
    assert fine._replace(refused=0).wrong() == ["nothing was tried"]
