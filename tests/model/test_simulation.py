"""Races, played from seeds: a few of those that `make torture` plays for minutes, and mistakes that it must find."""

from contextlib import ExitStack, contextmanager
from unittest import mock

import pytest

from litequeue.core.outcome import Settled
from litequeue.sqlite.jobs import claim, finish, settle
from litequeue.sqlite.sql import SQL
from model.row import Broken
from model.world import Limits, play, seeded

STEPS = 1500


@pytest.mark.parametrize("seed", range(8))
def test_whoever_acts_when_the_file_holds_what_it_must(seed):
    assert play(seed, STEPS).steps == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_the_same_where_each_workers_store_is_in_a_process_that_may_be_killed(seed):
    assert play(seed, 400, limits=Limits(remote=True)).steps == 400


@pytest.mark.slow
def test_nothing_that_can_come_about_is_left_out():
    tally = play(4, 4000).tally
    wanted = {"came too late", "condemned", "deaths", "rescued", "pruned", "KeyConflict", "RolledBack", "StoreBusy"}
    assert wanted | {"dispatched"} <= tally.keys()


def test_a_seed_plays_the_same_again():
    def rows():
        with seeded(8) as world:
            for _ in range(400):
                world.step()
            return world.truth.jobs

    assert rows() == rows()


# That the harness can fail: a promise is broken on purpose, and is found


def mistaken(name, old, new):
    assert old in SQL[name]
    return SQL[name].replace(old, new)


def changed(names, old, new):
    """Statements of the product with a mistake in them."""
    return mock.patch.dict(SQL, {name: mistaken(name, old, new) for name in names.split()})


@contextmanager
def firing_paused_ones():
    """In both looks: the one that computes ticks, and the one that enqueues them."""
    with changed("due_schedules", "paused = 0", "paused >= 0"), changed("schedule", "paused,", "0,"):
        yield


def finishing(old, new):
    """The statement of every end but plain successes with a mistake in it."""
    return mock.patch.object(finish, "_FINISH_TOLD", mistaken("finish", old, new) + "\nRETURNING id")


def both(one, other):
    with ExitStack() as stack:
        stack.enter_context(one)
        stack.enter_context(other)
        return stack.pop_all()


MISTAKES = {
    "a success is settled without fencing": lambda: mock.patch.object(
        finish, "_FINISH", mistaken("finish", "attempt = ?", "attempt >= ?")
    ),
    "other ends are settled without fencing": lambda: finishing("attempt = ?", "attempt >= ?"),
    "a run is returned without fencing": lambda: changed("reschedule", "attempt = :attempt", "attempt >= :attempt"),
    "a late completing() is not stopped": lambda: both(
        changed("stands", "attempt = :attempt", "attempt >= :attempt"), finishing("attempt = ?", "attempt >= ?")
    ),
    "a claim is no new attempt": lambda: mock.patch.object(
        claim, "_TAKE", mistaken("take", "attempt = attempt +", "attempt = attempt + 0 *")
    ),
    "priority is ignored": lambda: changed("heads", "ORDER BY -priority, id", "ORDER BY id"),
    "an ended job still holds its key": lambda: changed("key_holder", "ELSE state < 4", "ELSE 1"),
    "errors outlive their job": lambda: mock.patch.dict(SQL, prune_errors="SELECT 1"),
    "a tick fires again": lambda: changed("advance_schedule", "next_at = :next_at", "next_at = next_at"),
    "a rescue leaves jobs behind": lambda: changed("runs_of", "WHERE state = 3", "WHERE id % 2 AND state = 3"),
    "a cancel forgets what has begun": lambda: changed("reschedule", "RETURNING cancel_requested", "RETURNING 0"),
    "what is due is forgotten": lambda: changed("promote", "run_at <= :now", "run_at <= :now AND priority < 100"),
    "a schedule that is paused fires": firing_paused_ones,
    "an end is not stored": lambda: mock.patch.object(settle, "Retried", Settled),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_harness_finds_a_promise_that_is_not_kept(mistake):
    with pytest.raises(Broken, match="seed"), MISTAKES[mistake]():
        for seed in range(20):  # most at once; what takes a late end of one kind, in the sixth or so
            play(seed, 3000)
