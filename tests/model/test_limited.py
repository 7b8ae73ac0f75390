"""Limits, played from seeds: a few of those that `make torture` plays for minutes, and mistakes that it must find."""

from unittest import mock

import pytest

from litequeue.limits.rate import Rate
from litequeue.sqlite.limits import gate, give_back
from litequeue.sqlite.limits.taken import Room
from litequeue.sqlite.sql import SQL
from model.limited import play
from model.row import Broken

STEPS = 400


@pytest.mark.parametrize("seed", range(3))
def test_limits_hold_and_nothing_is_left_whoever_acts_when(seed):
    assert play(seed, STEPS).steps == STEPS


@pytest.mark.slow
def test_nothing_that_can_come_about_with_limits_is_left_out():
    tally = play(4, 1500).tally
    assert {"came too late to start", "deaths", "left behind", "Unsupported", "claimed"} <= tally.keys()


# That the harness can fail: a promise is broken on purpose, and is found


def changed(names, old, new):
    """Statements of the product with a mistake in them."""
    for name in names.split():
        assert old in SQL[name]
    return mock.patch.dict(SQL, {name: SQL[name].replace(old, new) for name in names.split()})


MISTAKES = {
    "a place is taken twice": lambda: changed("running_takes", "count(*)", "1"),
    "what was left behind holds nothing": lambda: changed(
        "running_takes", "SELECT task, takes, 1", "SELECT task, '{}', 0"
    ),
    "starts are forgotten early": lambda: changed("starts", "at > :edge", "at > :edge + 3"),
    "a start counts before its function is called": lambda: mock.patch.object(
        Rate, "stamp", lambda self, now: now - 1.0
    ),
    "the last of a key comes first": lambda: changed(
        "first_parked heads_of_keys", "ORDER BY rank, job", "ORDER BY -rank, job"
    ),
    "an end lets none in": lambda: mock.patch.object(give_back, "freed", return_value=iter(())),
    "starts are not given back": lambda: changed("take_off_start", "count = count - ?", "count = count - ? * 0"),
    "two begin in the order of a key": lambda: mock.patch.dict(SQL, ordered_holders="SELECT 1, 1 WHERE :limit = :keys"),
    "a limit is never full": lambda: mock.patch.object(Room, "fits", return_value=True),
    "a full limit is never looked at again": lambda: changed("keys_due", "look_at <= :now", "look_at <= 0"),
    "a pause is not seen": lambda: mock.patch.object(gate, "task_of", lambda name: f"{name}!"),
    "a replaced job stays parked": lambda: changed("unpark", "job = :id", "job = -:id"),
    "takes outlive their job": lambda: mock.patch.dict(SQL, prune_takes="SELECT 1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_harness_finds_a_promise_on_limits_that_is_not_kept(mistake):
    with pytest.raises(Broken, match="seed"), MISTAKES[mistake]():
        for seed in range(20):
            play(seed, 800)
