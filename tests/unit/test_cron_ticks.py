"""Cron against a slow walk of the clock (slow_cron.py), where zones change theirs: each tick once, none twice."""

import functools
import itertools
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from litequeue.scheduling.triggers import LATE, cron, due, following
from unit import slow_cron
from unit.slow_cron import Named

HOUR = 3600
DAY = 24 * HOUR
ZONES = [
    "UTC",
    "Africa/Casablanca",  # back for Ramadan
    "America/New_York",
    "America/Sao_Paulo",  # at midnight, until 2019
    "Asia/Kathmandu",  # by a quarter of an hour, in 1986
    "Asia/Pyongyang",  # by half an hour, at 23:30
    "Australia/Lord_Howe",  # by half an hour
    "Europe/Dublin",
    "Europe/Paris",
    "Pacific/Apia",  # the 30th of December 2011 left out
    "Pacific/Chatham",  # at 02:45
    "Pacific/Kwajalein",  # a day left out in 1993
]
FIRST, LAST = 1975, 2060
HARD = [
    "*/15 * * * *",
    "*/15 2 * * *",
    "*/15 1-3 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "0 0 * * *",
    "0 */2 * * *",
    "59 23 31 12 *",
    "0,45 0-4,23 * * *",
    "10-50/20 * * * 0",
    "0 3 1-7 * 1",
    "5 * 30 * *",
    "0 0 l * *",
    "0-23/1 * * * *",
    "0 6 10 * 5#2",
    "30 2 */9 * l5",
    "0 * 13 3,10 0#5,l2",
    "0 6 * * 1,5#1",
    "0 0 1 * 0,3#3",
    "17 0-23 * * *",
]
IN_SECONDS = ["0 2 * * * */20", "30 * * * * 15", "0,1 2 * * * 0,59", "59 1 * * * 59"]


@functools.cache
def changes(zone):
    """When the clocks change, to the day; the zone's first moment where they never do."""
    days = range(
        int(datetime(FIRST, 1, 1, tzinfo=timezone.utc).timestamp()),
        int(datetime(LAST, 1, 1, tzinfo=timezone.utc).timestamp()),
        DAY,
    )
    offsets = [datetime.fromtimestamp(day, ZoneInfo(zone)).utcoffset() for day in days]
    return [day for day, before, after in zip(days, offsets, offsets[1:], strict=False) if before != after] or [days[0]]


@st.composite
def near_a_change(draw):
    """A zone, and a whole minute within a day and a half of a change of its clocks."""
    zone = draw(st.sampled_from(ZONES))
    return zone, draw(st.sampled_from(changes(zone))) + 60 * draw(st.integers(-DAY // 60, 2 * DAY // 60))


def field(low, high):
    number = st.integers(low, high)
    spans = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}" if two[0] != two[1] else str(two[0]))
    steps = st.integers(2, min(30, high - low)).map(lambda step: f"*/{step}")
    lists = st.lists(number, min_size=1, max_size=3).map(lambda some: ",".join(map(str, some)))
    return st.one_of(st.just("*"), spans, steps, lists)


drawn = st.tuples(
    field(0, 59), field(0, 23), st.just("*") | field(1, 28), st.just("*") | field(1, 12), st.just("*") | field(0, 6)
).map(" ".join)
expressions = st.sampled_from(HARD) | drawn


def fast(expression, zone, start, end):
    trigger, tick, found = cron(expression, tz=zone), start, []
    while (tick := following(trigger, tick)) <= end:
        found.append(tick)
    return found


@settings(max_examples=120, deadline=None)
@given(near_a_change(), expressions, st.integers(1, 30))
@example(("UTC", 157766400), "* * 2 * 0-6", 1)
@example(("UTC", 157766400), "* * */2 * 0-6", 30)
@example(("Pacific/Apia", 1325160000), "0 6 * * *", 30)
@example(("Pacific/Apia", 1325160000), "0 * * * *", 30)
def test_ticks_are_those_that_the_clock_on_the_wall_comes_to(where, expression, hours):
    zone, start = where
    end = start + hours * HOUR
    assert fast(expression, zone, start, end) == slow_cron.ticks(expression, ZoneInfo(zone), start, end)


@settings(max_examples=10, deadline=None)
@given(near_a_change(), st.sampled_from(IN_SECONDS))
@example(("Europe/Paris", 1768437000), "0,1 2 * * * 0,59")
def test_ticks_by_the_second_are_those_that_the_clock_on_the_wall_comes_to(where, expression):
    zone, start = where
    assert fast(expression, zone, start, start + 3 * HOUR) == slow_cron.ticks(
        expression, ZoneInfo(zone), start, start + 3 * HOUR
    )


# -- looked at now and then --


def looks_at(trigger, catch_up, start, looks):
    """What is fired at each look, by the schedule's `catch_up`."""
    fired, next_at = [], following(trigger, start)
    for now in looks:
        found = due(trigger, next_at, now, catch_up, limit=100_000)
        fired.append(list(found.ticks))
        next_at = found.next_at
    return fired


@settings(max_examples=60, deadline=None)
@given(near_a_change(), expressions, st.lists(st.floats(0, 30 * HOUR), min_size=1, max_size=20).map(sorted))
def test_whenever_it_is_looked_at_each_tick_fires_once_or_gives_way_to_the_latest(where, expression, spans):
    zone, start = where
    looks = [start + span for span in spans]
    ticks = slow_cron.ticks(expression, ZoneInfo(zone), start, start + 30 * HOUR)
    new = [
        [tick for tick in ticks if before < tick <= now] for before, now in itertools.pairwise([float(start), *looks])
    ]
    latest = [some[-1:] for some in new]
    in_time = [[tick for tick in some if tick >= now - LATE] for some, now in zip(latest, looks, strict=True)]
    for catch_up, expected in (("all", new), ("one", latest), ("none", in_time)):
        assert looks_at(cron(expression, tz=zone), catch_up, start, looks) == expected


# -- dates --


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 29 2 *",
        "0 0 31 * *",
        "0 0 30 1,2,4 *",
        "0 0 29 2 1",
        "0 0 l 2 *",
        "0 0 l * 5",
        "0 0 */7 * *",
        "0 0 28-31 2 *",
        "0 0 13 * 5#2",
        "0 0 31 2 l5",
        "0 0 29 2 1#5",
        "0 0 * 2 1#5,3",
        "0 0 l * 6,0#1",
    ],
)
@pytest.mark.parametrize("year", [1896, 1996, 2088, 2396])
def test_dates_are_those_of_the_calendar_across_leap_days_there_are_and_there_are_not(expression, year):
    start, end = (int(datetime(each, 1, 1, tzinfo=timezone.utc).timestamp()) - 60 for each in (year, year + 24))
    named = Named.of(expression)
    days = range(start + 60, end, DAY)
    expected = [day for day in days if named.names_date(datetime.fromtimestamp(day, timezone.utc))]
    assert fast(expression, "UTC", start, end) == expected


def test_there_is_no_leap_day_in_2100():
    start = datetime(2090, 1, 1, tzinfo=timezone.utc).timestamp()
    end = datetime(2110, 1, 1, tzinfo=timezone.utc).timestamp()
    found = [
        datetime.fromtimestamp(tick, ZoneInfo("Europe/Paris"))
        for tick in fast("0 12 29 2 *", "Europe/Paris", start, end)
    ]
    assert [each.year for each in found] == [2092, 2096, 2104, 2108]
    assert {each.hour for each in found} == {12}


def test_a_day_that_a_zone_leaves_out_is_made_up_for_once_at_its_end():
    start, end = (int(datetime(2011, 12, day, 12, tzinfo=ZoneInfo("Pacific/Apia")).timestamp()) for day in (28, 31))
    found = [
        datetime.fromtimestamp(tick, ZoneInfo("Pacific/Apia"))
        for tick in fast("0 6,18 * * *", "Pacific/Apia", start, end)
    ]
    assert [(each.day, each.hour) for each in found] == [(28, 18), (29, 6), (29, 18), (31, 0), (31, 6)]


def test_what_is_looked_for_from_long_before_is_found_though_a_zone_shifts_by_more_than_a_day_meanwhile():
    """Apia: eleven hours behind in the winter of 2011, fourteen ahead in the summer that followed."""
    zone = ZoneInfo("Pacific/Apia")
    winter, summer = datetime(2011, 7, 1, tzinfo=zone), datetime(2012, 1, 15, tzinfo=zone)
    assert following(cron("0 * 15 1 *", tz="Pacific/Apia"), winter.timestamp()) == summer.timestamp()
