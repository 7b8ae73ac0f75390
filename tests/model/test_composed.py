"""Compositions, played from seeds: a few of those of `make torture`, and mistakes that they must find."""

from unittest import mock

import pytest

from litequeue.sqlite.compose import ended as ends
from litequeue.sqlite.jobs import finish, settle
from litequeue.sqlite.sql import SQL
from model.composed import play
from model.row import Broken

STEPS = 250


@pytest.mark.parametrize("seed", range(4))
def test_what_runs_after_what_is_as_the_graph_says_whatever_ends_when(seed):
    assert play(seed, STEPS).steps == STEPS


@pytest.mark.slow
def test_nothing_that_can_come_about_with_compositions_is_left_out():
    tally = sum((play(seed, 400).tally for seed in (3, 5)), start=play(6, 400).tally)
    wanted = {"stored", "claimed", "handed", "expired", "deaths", "pruned", "found", "RolledBack", "JobNotFound"}
    wanted |= {"cancelled", "cancelled groups", "cancelled wholes", "put off", "gone on", "revived"}
    assert wanted | {"retry done", "retry Unsupported", "retry JobNotFound"} <= tally.keys()


# That the harness can fail: a promise is broken on purpose, and is found


def changed(names, old, new):
    """Statements of the product with a mistake in them."""
    for name in names.split():
        assert old in SQL[name]
    return mock.patch.dict(SQL, {name: SQL[name].replace(old, new) for name in names.split()})


def untold(module):
    return mock.patch.object(module, "follow", side_effect=lambda *_: iter(()))


MISTAKES = {
    "a success counts nothing down": lambda: untold(settle),
    "completing() and failures count nothing down": lambda: untold(finish),
    "a parent counts twice": lambda: changed("count_down", "unended - ended.count", "unended - 2 * ended.count"),
    "a group is not marked": lambda: changed("end_dependents", "node = ended.child", "node = max(0, ended.child)"),
    "the reason names the job itself": lambda: changed("end_dependents", "ended.parent", "ended.child"),
    "an expiry calls no callback": lambda: mock.patch.object(ends, "_EXPIRED", 9),
    "a delay is forgotten": lambda: changed("let_begin", "dependent.delay > 0", "dependent.delay > 99"),
    "a retry revives what somebody cancelled": lambda: changed(
        "children_to_revive", "dependent.runs_on, dependent.ended_by", "dependent.runs_on, node.value"
    ),
    "a retry looks at no other parent": lambda: changed("other_bad_parents", "job.state > 4", "job.state > 9"),
    "a retry counts nothing up": lambda: changed("count_up", "unended + again.count", "unended"),
    "a cancel of the whole asks nobody": lambda: changed("ask_parts", "cancel_requested = 1", "cancel_requested = 0"),
    "a result is pruned that is needed": lambda: changed("takers", "taker.state <> 4", "taker.state > 9"),
    "a group loses members before its end": lambda: changed("group_needed", "unended > 0", "unended > 99"),
    "a failed member that is pruned is forgotten": lambda: mock.patch.dict(SQL, name_for_good="SELECT 1"),
    "edges outlive their jobs": lambda: mock.patch.dict(SQL, forget_edges_from="SELECT 1"),
    "what is put off is never gone on with": lambda: changed("put_off_first", "ORDER BY", "WHERE 0 ORDER BY"),
    "what is put off begins behind the next": lambda: changed("children", "edge.child > CASE", "edge.child > 1 + CASE"),
    "results come in another order": lambda: changed("members", "ORDER BY edge.place", "ORDER BY -edge.place"),
    "the key of a whole is not held": lambda: changed("composition_holder", "key = :key", "key = :key || 1"),
}

SOON = {"a failed member that is pruned is forgotten": 70, "a cancel of the whole asks nobody": 59}  # a seed that does


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_harness_finds_a_promise_on_compositions_that_is_not_kept(mistake):
    with pytest.raises(Broken, match="seed"), MISTAKES[mistake]():
        for seed in range(SOON.get(mistake, 0), 100):
            play(seed, 300)
