"""A little of what `make torture` does to compositions, and whether its record shows what must not be."""

import sys

import pytest

from crash import compositions
from crash.compositions_record import CANCELLED, FAILED, RUNNING, SUCCEEDED, WAITING, Graph, Move, Record, Run, Runs
from litequeue.core.plan import RunsOn

QUEUED = 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("driver", ["apsw", "sqlite3"])
def test_every_job_runs_when_its_parents_allow_and_nothing_waits_for_ever_under_kills(tmp_path, driver):
    size = compositions.Size(chord=300, chain=40, dag=200)
    figures = compositions.torture(tmp_path / "compositions.db", driver, size, kills=2)
    assert figures.sound, figures
    assert figures.jobs > 540


def record(*moves, lines=(), dead=(), runs_on=RunsOn.SUCCESS, by_hand=()):
    """A record of job 2, which waits for job 1. `lines`: of runs, as (job, attempt, begin, ok)."""
    of = {}
    for job, attempt, begin, ok in lines:
        of.setdefault(job, {})[attempt] = Run(begin, attempt, ok)
    graph = Graph({1: QUEUED, 2: WAITING}, {2: [1]}, {2: runs_on})
    return Record(graph, [Move(*move) for move in moves], Runs(of, set(dead), 0), set(by_hand))


def runs(job, end=SUCCEEDED, attempt=1):
    return (job, attempt, QUEUED, RUNNING), (job, attempt, RUNNING, end)


BEGINS = (2, 0, WAITING, QUEUED)
STOPS = (2, 0, WAITING, CANCELLED)


def test_the_record_of_what_is_right_shows_nothing():
    made = record(*runs(1), BEGINS, *runs(2), lines=[(1, 1, 0, 1), (2, 1, 2, 3)])
    found = made.not_ended(), made.ended_wrong(), made.let_begin_early, made.begun_early(), made.run_twice()
    assert (*found, made.succeeded_twice(), made.succeeded_unrun()) == (0,) * 7


def test_the_record_shows_what_began_too_early():
    assert record((1, 1, QUEUED, RUNNING), BEGINS).let_begin_early == 1
    assert record(*runs(1, FAILED), BEGINS).let_begin_early == 1
    assert record(*runs(1, FAILED), BEGINS, runs_on=RunsOn.END).let_begin_early == 0
    assert record(lines=[(1, 1, 0, 2), (2, 1, 1, 3)]).begun_early() == 1


def test_the_record_shows_what_ended_otherwise_than_its_parents_allow():
    assert record(*runs(1), STOPS).ended_wrong() == 1
    assert record(*runs(1), STOPS, by_hand=[2]).ended_wrong() == 0
    assert record(*runs(1, FAILED), BEGINS, *runs(2)).ended_wrong() == 1
    assert record(*runs(1)).not_ended() == 1


def test_the_record_shows_what_ran_twice_and_no_death_says_why():
    lines = [(2, 1, 0, 1), (2, 2, 2, 3)]
    again = *runs(2), (2, 1, SUCCEEDED, QUEUED), *runs(2, attempt=2)
    assert (record(*again, lines=lines).run_twice(), record(*again, lines=lines, dead=[1]).run_twice()) == (1, 0)
    assert record(*again).succeeded_twice() == 1
    assert record(*runs(2)).succeeded_unrun() == 1
