"""Combined triggers, `H`, and what a schedule starts from when its trigger is given or changed."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from litequeue import at, cron, every, first_of
from litequeue.scheduling.start import Before, declared, is_same, start
from litequeue.scheduling.triggers import Due, Every, decode, due, encode, first, following, jitter, named, upcoming
from unit.test_triggers import HOUR, NOW, ticks

MONTHLY = every("1 month", at="09:00", tz="Europe/Paris")


def begun(trigger, now=NOW, before=None):
    placed = start(encode(named(trigger, "any")), now, before)
    return decode(placed.trigger), placed.next_at


def changed(old, new, now, *, fired=True, next_at=None):
    """The trigger and the next due time of a schedule that had the old one since `NOW`, and gets the new one."""
    stored = start(encode(old), NOW)
    return begun(new, now, Before(stored.trigger, next_at or stored.next_at, fired))


# -- several in one --


def test_the_first_of_several_triggers_fires_each_time_one_of_them_does():
    found, next_at = begun(first_of(every("2h"), every("3h"), at("2023-11-14T23:00:00Z")))
    assert [(each - NOW) / HOUR for each in upcoming(found, next_at, 5)] == pytest.approx(
        [0.7777, 2, 3, 4, 6], abs=1e-3
    )


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                cron("0 */2 * * *", tz="Europe/Paris"),
                cron("30 1 * * 0", tz="UTC"),
                MONTHLY,
                every("7h"),
                every("24h", first_at="2020-01-01T00:00:00Z"),
                at("2030-01-01T00:00:00Z"),
            ]
        ),
        min_size=2,
        max_size=4,
    ),
    st.integers(1_700_000_000, 1_900_000_000),
)
@example([cron("0 */2 * * *", tz="Europe/Paris"), at("2030-01-01T00:00:00Z")], 1_898_380_734)
def test_the_ticks_of_several_are_those_of_each(members, now):
    found, next_at = begun(first_of(*members), now)
    single = {tick for each in found.members for tick in upcoming(each, first(each, now), 20)}
    assert upcoming(found, next_at, 20) == sorted(single)[:20]


def test_moments_alone_end():
    found, next_at = begun(first_of(at("2030-01-01T00:00:00Z"), at("2031-01-01T00:00:00Z")))
    assert len(upcoming(found, next_at)) == 2
    assert following(found, upcoming(found, next_at)[1]) is None
    assert due(found, next_at, next_at) == Due((next_at,), upcoming(found, next_at)[1])
    assert due(found, next_at, next_at + 1e9) == Due((upcoming(found, next_at)[1],), None)


def test_missed_ticks_of_several_are_caught_up_together():
    found, next_at = begun(first_of(every("2h"), every("3h")))
    now = NOW + 6.5 * HOUR
    assert due(found, next_at, now, "all").ticks == tuple(NOW + HOUR * each for each in (2, 3, 4, 6))
    assert due(found, next_at, now, "all", limit=2) == Due((NOW + 2 * HOUR, NOW + 3 * HOUR), NOW + 4 * HOUR)
    assert due(found, next_at, now) == Due((NOW + 6 * HOUR,), NOW + 8 * HOUR)


def test_a_tick_is_delayed_by_the_jitter_of_the_trigger_whose_it_is():
    found, _ = begun(first_of(every("2h", jitter=5), every("3h", jitter=9), cron("@daily", tz="UTC")))
    assert [jitter(found, NOW + HOUR * each) for each in (2, 3, 6)] == [5, 9, 9]
    assert jitter(found, following(cron("@daily", tz="UTC"), NOW)) == 0


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ([], "needs two triggers or more, got 0"),
        ([every(1)], "needs two triggers or more, got 1"),
        ([every(1), first_of(every(1), every(2))], "cannot be inside another"),
    ],
)
def test_what_cannot_be_combined_is_refused(members, fault):
    with pytest.raises(ValueError, match=fault):
        first_of(*members)


def test_what_is_no_trigger_cannot_be_combined():
    with pytest.raises(TypeError, match=r"must be made by cron\(\), every\(\), at\(\) or first_of\(\), got '10m'"):
        first_of(every(1), "10m")


# -- H --


def hashed(expression, name):
    return named(cron(expression, tz="UTC"), name)


@settings(max_examples=15, deadline=None)
@given(st.text(min_size=1, max_size=20))
def test_a_hashed_number_is_in_its_range_and_fires_at_the_rate_of_its_field(name):
    [minute] = {tick % HOUR // 60 for tick in ticks(hashed("H(10-19) * * * *", name), NOW, NOW + 5 * HOUR)}
    assert 10 <= minute <= 19
    found = ticks(hashed("H/15 * * * *", name), NOW, NOW + 5 * HOUR)
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {900}
    assert hashed("H H H * *", name) == decode(encode(hashed("H H H * *", name)))


@pytest.mark.parametrize(
    ("name", "moment"),
    [("report", "2023-12-05 12:43:00"), ("mail", "2023-11-20 10:43:00"), ("backup", "2023-11-25 22:41:00")],
)
def test_a_name_is_hashed_to_the_same_numbers_for_ever(name, moment):
    """These are in files: another number would move every such schedule with a release."""
    from litequeue.core.duration import utc

    assert f"{utc(following(hashed('H H H * *', name), NOW)):%F %T}" == moment


def test_fields_are_hashed_independently_and_names_are_spread():
    found = {following(hashed("H H(0-23) * * *", f"name {number}"), NOW) for number in range(200)}
    assert len(found) > 150  # of 1440
    assert len({tick % HOUR for tick in found}) > 45
    assert len({tick // HOUR for tick in found}) >= 24


def test_a_hash_without_a_name_is_not_stored():
    with pytest.raises(ValueError, match="needs the name of its schedule"):
        encode(cron("H * * * *", tz="UTC"))


def test_a_hash_that_names_no_date_is_refused_with_the_schedule_s_name():
    with pytest.raises(ValueError, match="matches no date"):
        [hashed("0 0 31 H *", f"name {number}") for number in range(50)]


# -- given, and changed --


def test_the_date_that_a_schedule_is_counted_from_stays_when_it_is_declared_again():
    stored = start(encode(MONTHLY), NOW).trigger
    assert is_same(stored, encode(MONTHLY))
    assert not is_same(stored, encode(every("2 months", at="09:00", tz="Europe/Paris")))
    assert declared(decode(stored)) == MONTHLY


@pytest.mark.parametrize(
    "trigger",
    [
        every("1h"),
        cron("H * * * *", tz="UTC"),
        first_of(MONTHLY, every("1h"), cron("@daily", tz="UTC"), at("2030-01-01T00:00:00Z")),
    ],
)
def test_a_stored_trigger_is_told_as_it_was_declared(trigger):
    found, _ = begun(trigger)
    assert declared(found) == trigger
    assert is_same(encode(found), encode(named(trigger, "any")))


OTHERS = [
    every("2h"),
    cron("@daily", tz="UTC"),
    MONTHLY,
    first_of(every("2h"), every("3h")),
    every("1h", first_at="now"),
    every("1h", first_at="2020-01-01T00:00:00Z"),
]


@pytest.mark.parametrize("new", OTHERS)
@pytest.mark.parametrize("catch_up", ["one", "all"])
def test_a_tick_that_was_due_is_still_due_with_another_trigger_and_fires_once(new, catch_up):
    now = NOW + 5.5 * HOUR
    found, next_at = changed(every("1h", jitter=1), new, now)
    assert next_at == NOW + HOUR
    fired = due(found, next_at, now, catch_up)
    assert fired.ticks == (next_at,)
    assert fired.next_at > now
    assert due(found, next_at, now, "none").ticks == ()


@pytest.mark.parametrize("new", OTHERS)
def test_another_trigger_begins_anew_where_nothing_was_due(new):
    found, next_at = changed(every("4h"), new, NOW + HOUR)
    assert next_at == following(found, NOW + HOUR)
    assert next_at > NOW + HOUR


@pytest.mark.parametrize("now", [NOW + 60, NOW + 5 * HOUR])
def test_another_jitter_changes_no_tick(now):
    found, next_at = changed(every("1h"), every("1h", jitter="1m"), now)
    assert (found, next_at) == (Every(3600.0, 60.0), NOW + HOUR)


def test_another_time_of_the_day_stays_on_the_same_dates():
    later = every("1 month", at="10:30", tz="Europe/Paris")
    found, next_at = changed(MONTHLY, later, NOW + 24 * HOUR)
    assert next_at == start(encode(later), NOW).next_at
    assert following(found, next_at) == following(begun(later)[0], next_at)


@pytest.mark.parametrize("now", [NOW, NOW + 9 * HOUR])
def test_a_single_moment_is_moved(now):
    old, new = at("2023-11-15T00:00:00Z"), at("2023-11-16T00:00:00Z")
    assert changed(old, new, now, fired=False) == (new, new.when)


def test_a_first_tick_now_comes_after_a_change_only_if_none_has_fired():
    soon = every("1h", first_at="now")
    assert changed(every("4h"), soon, NOW + HOUR, fired=False)[1] == NOW + HOUR
    assert changed(every("4h"), soon, NOW + HOUR, fired=True)[1] == NOW + 2 * HOUR


def test_a_trigger_that_this_release_does_not_understand_is_replaced_with_its_due_tick():
    assert begun(every("1h"), NOW, Before('{"moon": "full"}', NOW - 5, fired=True))[1] == NOW - 5
    assert begun(every("1h"), NOW, Before('{"moon": "full"}', NOW + 5, fired=True))[1] == NOW + HOUR


@pytest.mark.parametrize(
    "text",
    [
        '{"every": "1 month", "at": "25:00", "zone": "UTC", "jitter": 0}',
        '{"every": "1 month", "at": "09:00", "zone": "UTC", "jitter": 0, "since": 1e300}',
        '{"every": 1, "jitter": 0, "since": true}',
        '{"every": 1, "jitter": 0, "first_at": "soon"}',
        '{"cron": "H * * * *", "zone": "UTC", "name": 5}',
        '{"first_of": []}',
        '{"first_of": [{"at": 1}, {"first_of": [{"at": 1}, {"at": 2}]}]}',
    ],
)
def test_garbage_is_not_decoded(text):
    with pytest.raises(ValueError, match="not a stored trigger"):
        decode(text)
