"""A little of what `make torture` does to limits: all kinds at once, in one file."""

import sys

import pytest

from crash import limits
from crash.limits_record import Change, Job, Kind, Move, Record, Start, Starts

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")]


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    path = tmp_path_factory.mktemp("limits") / "limits.db"
    return limits.torture(path, limits.KINDS, jobs=60, kills=2)


@pytest.mark.parametrize("number", range(len(limits.KINDS)), ids=[kind.name for kind in limits.KINDS])
def test_no_limit_is_exceeded_and_nothing_is_stuck_under_kills_jumps_and_changes(figures, number):
    assert figures[number].wrong(timed=False) == []
    assert figures[number].jobs == 60


def record(kind, *runs):
    """A record of these runs of jobs of one key: when each was claimed and ended, by the file and by its function."""
    moves = sorted(
        [(begins, run, 1, 3) for run, (begins, _) in enumerate(runs)]
        + [(ends, run, 3, 4) for run, (_, ends) in enumerate(runs)],
        key=lambda move: (move[0], -move[2]),
    )
    starts = [Start(run, 1, begins, ends, float("inf"), None) for run, (begins, ends) in enumerate(runs)]
    return Record(
        kind,
        dict.fromkeys(range(len(runs)), Job("", 1)),
        [Move(seq, at, run, 1, old, new) for seq, (at, run, old, new) in enumerate(moves, 1)],
        {},
        Starts(starts),
    )


def test_the_record_shows_a_place_that_was_given_twice():
    one_at_a_time = Kind("one", 1, ())
    over = record(one_at_a_time, (0, 10), (5, 15))
    assert (over.exceeded_by_rows(), over.exceeded(), over.out_of_order()) == (1, 1, 1)
    kept = record(one_at_a_time, (0, 10), (10, 15))
    assert (kept.exceeded_by_rows(), kept.exceeded(), kept.out_of_order()) == (0, 0, 0)


def test_the_record_shows_one_start_too_many_in_a_window():
    two_a_second = Kind("two", 2, (), window=1.0)
    assert record(two_a_second, (0.0, 0.1), (0.4, 0.5), (0.9, 1.0)).exceeded() == 1
    assert record(two_a_second, (0.0, 0.1), (0.4, 0.5), (1.0, 1.1)).exceeded() == 0


def test_a_limit_that_was_lowered_binds_what_is_claimed_from_then_on():
    kind = Kind("two", 2, ())
    both = record(kind, (0, 10), (5, 15))
    lowered = Record(kind, both.jobs, both.moves, {"two": [Change(2, 3, 1)]}, Starts(both.starts))
    assert (both.exceeded(), lowered.exceeded()) == (0, 1)
