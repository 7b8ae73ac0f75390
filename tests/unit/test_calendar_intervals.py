"""Intervals of the calendar, and those with a first moment: what comes next, and from where they are counted."""

import itertools
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from litequeue.scheduling.intervals import Calendar, Every, every
from litequeue.scheduling.start import start
from litequeue.scheduling.triggers import decode, due, encode, first, following, upcoming
from unit.test_cron_ticks import ZONES

HOUR, DAY = 3600, 86_400
NOW = datetime(2026, 1, 31, 10, tzinfo=ZoneInfo("Europe/Paris")).timestamp()


def begun(trigger, now=NOW):
    """The trigger as a schedule that was added at `now` has it, and its first due time."""
    placed = start(encode(trigger), now)
    return decode(placed.trigger), placed.next_at


def next_dates(trigger, count=5, now=NOW, zone="Europe/Paris"):
    found, next_at = begun(trigger, now)
    return [
        f"{datetime.fromtimestamp(each, ZoneInfo(zone)):%Y-%m-%d %H:%M}" for each in upcoming(found, next_at, count)
    ]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("1 month", ["2026-02-28 09:00", "2026-03-31 09:00", "2026-04-30 09:00", "2026-05-31 09:00"]),
        ("2 months", ["2026-03-31 09:00", "2026-05-31 09:00", "2026-07-31 09:00", "2026-09-30 09:00"]),
        ("13 months", ["2027-02-28 09:00", "2028-03-31 09:00", "2029-04-30 09:00", "2030-05-31 09:00"]),
        ("year", ["2027-01-31 09:00", "2028-01-31 09:00", "2029-01-31 09:00", "2030-01-31 09:00"]),
        ("1 Week", ["2026-02-07 09:00", "2026-02-14 09:00", "2026-02-21 09:00", "2026-02-28 09:00"]),
        ("2w", ["2026-02-14 09:00", "2026-02-28 09:00", "2026-03-14 09:00", "2026-03-28 09:00"]),
        ("10d", ["2026-02-10 09:00", "2026-02-20 09:00", "2026-03-02 09:00", "2026-03-12 09:00"]),
        (timedelta(days=1), ["2026-02-01 09:00", "2026-02-02 09:00", "2026-02-03 09:00", "2026-02-04 09:00"]),
    ],
)
def test_an_interval_of_the_calendar_is_counted_from_the_day_it_was_added(interval, expected):
    assert next_dates(every(interval, at="09:00", tz="Europe/Paris"), 4) == expected


def test_a_time_that_is_still_ahead_is_the_first_tick():
    assert next_dates(every("1 month", at="11:30", tz="Europe/Paris"), 2) == ["2026-01-31 11:30", "2026-02-28 11:30"]


def test_the_29th_of_february_is_the_28th_in_other_years():
    leap = every("1 year", first_at="2024-02-29T06:00:00Z", tz="UTC")
    assert next_dates(leap, 4, NOW, "UTC") == [
        "2026-02-28 06:00",
        "2027-02-28 06:00",
        "2028-02-29 06:00",
        "2029-02-28 06:00",
    ]


def test_the_first_moment_gives_the_day_and_the_time():
    trigger = every("2 weeks", first_at="2026-03-02T08:15:30+01:00", tz="Europe/Paris")
    assert next_dates(trigger, 3) == ["2026-03-02 08:15", "2026-03-16 08:15", "2026-03-30 08:15"]
    assert first(begun(trigger)[0], NOW) == datetime(2026, 3, 2, 7, 15, 30, tzinfo=timezone.utc).timestamp()


def test_a_first_moment_that_is_past_counts_and_does_not_fire():
    trigger = every("1 month", first_at="2025-08-31T00:00:00+02:00", tz="Europe/Paris")
    assert next_dates(trigger, 3) == ["2026-02-28 00:00", "2026-03-31 00:00", "2026-04-30 00:00"]


def test_a_time_that_does_not_exist_is_right_after_the_gap_and_one_that_comes_twice_comes_once():
    daily = every("1 day", at="02:30", tz="Europe/Paris")
    spring, autumn = (datetime(2026, *day, 12, tzinfo=timezone.utc).timestamp() for day in ((3, 27), (10, 23)))
    assert next_dates(daily, 3, spring) == ["2026-03-28 02:30", "2026-03-29 03:00", "2026-03-30 02:30"]
    found = upcoming(*begun(daily, autumn), 3)
    assert [later - earlier for earlier, later in itertools.pairwise(found)] == [DAY, 25 * HOUR]


def slow_dates(trigger, begin, until):
    """Its ticks, counted one by one from the date on which it was added."""
    zone = ZoneInfo(trigger.zone)
    anchor = datetime.fromtimestamp(begin, zone).date()
    for number in itertools.count():
        if trigger.unit in {"day", "week"}:
            day = anchor + timedelta(days=number * trigger.count * (7 if trigger.unit == "week" else 1))
        else:
            months = (
                anchor.year * 12 + anchor.month - 1 + number * trigger.count * (12 if trigger.unit == "year" else 1)
            )
            day = max(
                candidate
                for length in range(28, 32)
                for candidate in [date(months // 12, months % 12 + 1, 28) + timedelta(days=length - 28)]
                if candidate.month == months % 12 + 1 and candidate.day <= max(anchor.day, 28)
            )
            day = min(day, day.replace(day=min(anchor.day, day.day)))
        tick = moment_of(zone, datetime.combine(day, time()) + timedelta(seconds=trigger.second))
        if tick > until:
            return
        if tick > begin:
            yield tick


def moment_of(zone, wall):
    """The first moment at which a clock on the wall shows that time, or has passed it."""
    low, high = (int((wall + timedelta(hours=by)).replace(tzinfo=timezone.utc).timestamp()) for by in (-40, 40))
    for minute in range(low - low % 60, high, 60):
        if datetime.fromtimestamp(minute, zone).replace(tzinfo=None) >= wall:
            return minute
    raise AssertionError


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.integers(10_000, 20_000).map(lambda days: days * DAY),
    st.integers(0, 1439),
    st.integers(1, 40),
    st.sampled_from(["day", "week", "month", "year"]),
)
@example("Pacific/Apia", 1325030400, 360, 1, "day")
@example("Europe/Paris", 1743120000, 150, 1, "day")
def test_ticks_are_those_that_are_found_by_counting(zone, begin, minute, count, unit):
    trigger = every(f"{count} {unit}s", at=f"{minute // 60}:{minute % 60:02}", tz=zone)
    span = {"day": 1, "week": 7, "month": 31, "year": 366}[unit] * count * 4 * DAY
    found, next_at = begun(trigger, begin)
    expected = sorted(set(slow_dates(trigger, begin, begin + span)))
    assert [each for each in upcoming(found, next_at, len(expected) + 1) if each <= begin + span] == expected


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 1e6), st.floats(-1e8, 1e8), st.floats(0, 1e8))
def test_an_interval_with_a_first_moment_keeps_to_its_grid(interval, ahead, late):
    trigger = Every(interval, first_at=NOW + ahead)
    tick = following(trigger, NOW + late)
    assert tick > NOW + late
    assert tick >= trigger.first_at
    assert tick - max(NOW + late, trigger.first_at) <= interval + 1e-4
    number = (tick - trigger.first_at) / interval
    assert number == pytest.approx(round(number), abs=1e-3)


def test_missed_dates_are_caught_up_as_those_of_cron():
    trigger, next_at = begun(every("1 day", at="09:00", tz="UTC"))
    now = next_at + 2.5 * DAY
    assert due(trigger, next_at, now, "all").ticks == (next_at, next_at + DAY, next_at + 2 * DAY)
    assert due(trigger, next_at, now).ticks == (next_at + 2 * DAY,)
    assert due(trigger, next_at, now, "none").ticks == ()
    assert due(trigger, next_at, now).next_at == next_at + 3 * DAY


@pytest.mark.parametrize(
    "trigger",
    [
        every("1 month", at="09:00", tz="UTC"),
        every("1h", first_at="2020-01-01T00:00:00Z"),
        every("1 day", at="9:00", tz="UTC"),
    ],
)
def test_a_clock_that_is_set_back_by_years_does_not_silence_it(trigger):
    found, _ = begun(trigger)
    back = NOW - 3 * 365 * DAY
    assert due(found, following(found, NOW), back).next_at <= back + 32 * DAY


def test_a_first_tick_now_comes_when_it_is_added_and_the_others_are_counted_from_it():
    trigger, next_at = begun(every("1h", first_at="now"))
    assert (next_at, due(trigger, next_at, NOW)) == (NOW, due(every("1h"), NOW, NOW))
    found, next_at = begun(every("1 month", at="09:00", tz="Europe/Paris", first_at="now"))
    assert (next_at, first(found, NOW)) == (NOW, NOW)
    assert datetime.fromtimestamp(following(found, NOW), timezone.utc).isoformat() == "2026-02-28T08:00:00+00:00"


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: every("1 month"), r'needs the time of the day: every\(\'1 month\', at="09:00"\)'),
        (lambda: every("2 weeks"), 'for exactly 336 hours write "2w"'),
        (lambda: every("10m", at="09:00"), "at= needs an interval of days, weeks, months or years"),
        (lambda: every(timedelta(hours=36), at="09:00"), "at= needs an interval of days"),
        (lambda: every("10m", tz="UTC"), "tz= needs at="),
        (lambda: every("1 month", at="25:00"), "at must be a time of the day"),
        (lambda: every("1 month", at="noon"), "at must be a time of the day"),
        (lambda: every("1 month", at=time(9, tzinfo=timezone.utc)), "at must be a time of the day"),
        (lambda: every("1 month", at=9), "at must be a time of the day"),
        (lambda: every("0 days", at="09:00"), "between 1 day and 100 years"),
        (lambda: every("200 years", at="09:00"), "between 1 day and 100 years"),
        (lambda: every("1 day", at="09:00", first_at="2026-01-01T00:00:00Z"), "pass it or at=, not both"),
        (lambda: every("1h", first_at="2026-01-01T00:00:00"), "first_at has no time zone"),
        (lambda: every("1h", first_at="soon"), "first_at is not ISO text"),
        (lambda: every("1 day", at="09:00", tz="Europe/Pari"), "did you mean 'Europe/Paris'"),
    ],
)
def test_what_is_missing_or_wrong_in_an_interval_is_refused_with_advice(make, advice):
    with pytest.raises(ValueError, match=advice):
        make()


def test_a_time_of_the_day_may_be_a_time():
    assert every("1 day", at=time(9, 5, 7), tz="UTC") == every("1 day", at="9:05:07", tz="UTC")
    assert every("1 day", at="09:05:07", tz="UTC") == Calendar(1, "day", 9 * 3600 + 5 * 60 + 7, "UTC")
