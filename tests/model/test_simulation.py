"""Races, played from seeds: a few of those that `make torture` plays for minutes, and mistakes that it must find."""

from unittest import mock

import pytest

from litequeue.core.outcome import Settled
from litequeue.sqlite.jobs import claim, transitions
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


def test_nothing_that_can_come_about_is_left_out():
    tally = play(4, 4000).tally
    wanted = {"came too late", "condemned", "deaths", "rescued", "pruned", "KeyConflict", "RolledBack", "StoreBusy"}
    assert wanted | {"handed over"} <= tally.keys()


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


MISTAKES = {
    "a success is settled without fencing": lambda: mock.patch.object(
        transitions, "_SUCCEED", mistaken("succeed", "attempt = ?", "attempt >= ?")
    ),
    "other ends are settled without fencing": lambda: changed(
        "fail retry_later snooze release", "attempt = :attempt", "attempt >= :attempt"
    ),
    "a late completing() is not stopped": lambda: changed(
        "still_mine complete", "attempt = :attempt", "attempt >= :attempt"
    ),
    "a claim is no new attempt": lambda: mock.patch.object(
        claim, "_TAKE", mistaken("take", "attempt = attempt +", "attempt = attempt + 0 *")
    ),
    "priority is ignored": lambda: changed("heads", "ORDER BY -priority, id", "ORDER BY id"),
    "an ended job still holds its key": lambda: changed(
        "fail", "CASE WHEN key_scope = 'kept' THEN held_key END", "held_key"
    ),
    "errors outlive their job": lambda: mock.patch.dict(SQL, prune_errors="SELECT 1"),
    "a tick fires again": lambda: changed("advance_schedule", "next_at = :next_at", "next_at = next_at"),
    "a rescue leaves jobs behind": lambda: changed("blame", "WHERE id = :id", "WHERE id = :id AND id % 2"),
    "a cancel forgets what has begun": lambda: changed(
        "cancel_returned", "cancel_requested = 1", "cancel_requested = 2"
    ),
    "what is due is forgotten": lambda: changed("promote", "run_at <= :now", "run_at <= :now AND priority < 100"),
    "a schedule that is paused fires": lambda: changed("due_schedules", "paused = 0", "paused >= 0"),
    "an end is not stored": lambda: mock.patch.object(transitions, "Retried", Settled),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_harness_finds_a_promise_that_is_not_kept(mistake):
    with pytest.raises(Broken, match="seed"), MISTAKES[mistake]():
        for seed in range(20):  # most at once; what takes a late end of one kind, in the sixth or so
            play(seed, 3000)
