"""Triggers: when they are due, across missed ticks, leap days and changes of the clocks."""

import itertools
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litequeue.scheduling.triggers import (
    At,
    Cron,
    Due,
    Every,
    at,
    check_catch_up,
    cron,
    decode,
    describe,
    due,
    encode,
    every,
    first,
    following,
)

ZONES = [
    "UTC",
    "America/New_York",
    "Europe/Paris",
    "Europe/Dublin",  # summer time is the standard, winter time the exception
    "Africa/Casablanca",  # one hour back for Ramadan
    "Australia/Lord_Howe",  # half an hour
    "Pacific/Chatham",  # +12:45, at 02:45
    "America/Santiago",  # at midnight
    "Antarctica/Troll",  # two hours
    "Asia/Kathmandu",  # +05:45
]
HOUR = 3600
DAY = 24 * HOUR
NOW = 1_700_000_000.0
moments = st.integers(1_700_000_000, 2_000_000_000)
zones = st.sampled_from(ZONES)


def unix(text):
    return datetime.fromisoformat(text).timestamp()


def ticks(trigger, start, end):
    upcoming = itertools.accumulate(
        itertools.repeat(trigger), lambda tick, again: following(again, tick), initial=start
    )
    return list(itertools.takewhile(lambda tick: tick < end, itertools.islice(upcoming, 1, None)))


def local(expression, zone, day, days=1):
    """Return the ticks of `days` from `day` on, as text of the zone's wall time with its offset."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    found = ticks(cron(expression, tz=zone), start.timestamp() - 1, (start + timedelta(days=days)).timestamp())
    return [datetime.fromtimestamp(tick, ZoneInfo(zone)).strftime("%d %H:%M%z") for tick in found]


# -- the clocks change --


@pytest.mark.parametrize(
    ("expression", "zone", "day", "expected"),
    [
        # the table of FEATURES 1g: New York 2026, 02:00 to 03:00 on 8 March, back on 1 November
        ("30 2 * * *", "America/New_York", "2026-03-08", ["08 03:00-0400"]),
        ("30 1 * * *", "America/New_York", "2026-11-01", ["01 01:30-0400"]),
        ("0 2 * * *", "America/New_York", "2026-11-01", ["01 02:00-0500"]),
        ("*/15 2 * * *", "America/New_York", "2026-03-08", ["08 03:00-0400"]),
        ("0,30 2-3 * * *", "America/New_York", "2026-03-08", ["08 03:00-0400", "08 03:30-0400"]),
        ("0 1,2,3 * * *", "Europe/Paris", "2026-10-25", ["25 01:00+0200", "25 02:00+0200", "25 03:00+0100"]),
        ("0 0 * * *", "America/Santiago", "2026-09-06", ["06 01:00-0300"]),
        ("30 23 * * *", "America/Santiago", "2026-04-04", ["04 23:30-0300"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["04 02:30+1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["05 01:45+1100"]),
        ("0 3 * * *", "Pacific/Chatham", "2026-09-27", ["27 03:45+1345"]),
        ("30 1 * * *", "Antarctica/Troll", "2026-03-29", ["29 03:00+0200"]),
        ("0 6 * * *", "Asia/Kathmandu", "2026-03-29", ["29 06:00+0545"]),
        ("0 */12 * * *", "America/Santiago", "2026-09-06", ["06 01:00-0300", "06 12:00-0300"]),
    ],
)
def test_a_fixed_hour_runs_once_whether_it_is_skipped_or_repeated(expression, zone, day, expected):
    assert local(expression, zone, day) == expected


@pytest.mark.parametrize(
    ("zone", "day", "expected"),
    [
        ("America/New_York", "2026-03-08", ["00:30-0500", "01:30-0500", "03:30-0400"]),
        ("America/New_York", "2026-11-01", ["00:30-0400", "01:30-0400", "01:30-0500", "02:30-0500"]),
        ("Australia/Lord_Howe", "2026-10-04", ["00:30+1030", "01:30+1030", "02:30+1100", "03:30+1100"]),
        ("Australia/Lord_Howe", "2026-04-05", ["00:30+1100", "01:30+1100", "01:30+1030", "02:30+1030"]),
        ("Pacific/Chatham", "2026-09-27", ["00:30+1245", "01:30+1245", "02:30+1245", "04:30+1345"]),
        ("America/Santiago", "2026-09-06", ["01:30-0300", "02:30-0300"]),
    ],
)
def test_star_hours_run_every_real_hour(zone, day, expected):
    assert [text[3:] for text in local("30 * * * *", zone, day)][: len(expected)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_every_minute_is_every_real_minute_the_year_round(zone):
    start = unix("2026-01-01T00:00:00+00:00")
    trigger = cron("* * * * *", tz=zone)
    assert all(following(trigger, start + hour * HOUR - 60) == start + hour * HOUR for hour in range(365 * 24))


@pytest.mark.slow
@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone != "Australia/Lord_Howe"])
def test_hourly_ticks_are_one_real_hour_apart_the_year_round(zone):
    start = unix("2026-01-01T00:00:00+00:00") - 15 * 60
    found = ticks(cron("0 * * * *", tz=zone), start, start + 365 * DAY)
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {HOUR}


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", ["30 2 * * *", "0 0 * * *", "30 1 * * *", "59 23 * * *"])
def test_a_daily_trigger_runs_once_on_every_local_day(zone, expression):
    start = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))
    found = ticks(cron(expression, tz=zone), start.timestamp() - 1, start.replace(year=2028).timestamp())
    days = [datetime.fromtimestamp(tick, ZoneInfo(zone)).date() for tick in found]
    assert days == [start.date() + timedelta(days=number) for number in range(730)]


@settings(deadline=None)
@given(moments, zones)
def test_an_hourly_tick_is_the_next_instant_whose_wall_minute_is_named(moment, zone):
    expected = next(
        second
        for second in range(moment - moment % 60 + 60, moment + 2 * HOUR, 60)
        if datetime.fromtimestamp(second, ZoneInfo(zone)).minute == 20
    )
    assert following(cron("20 * * * *", tz=zone), moment) == expected


# -- cron: what comes next --

EXPRESSIONS = ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *", "0 12 * * MON", "0 0 29 2 *", "0 3 * * * 30"]


@settings(deadline=None)
@given(moments, zones, st.sampled_from(EXPRESSIONS), st.floats(0, 0.999))
def test_the_next_tick_is_strictly_later(moment, zone, expression, fraction):
    tick = following(cron(expression, tz=zone), moment + fraction)
    assert tick > moment + fraction
    assert tick == int(tick)


@settings(deadline=None)
@given(moments, zones, st.sampled_from(EXPRESSIONS), st.floats(0, 1))
def test_no_tick_lies_between_a_tick_and_the_one_before(moment, zone, expression, share):
    trigger = cron(expression, tz=zone)
    tick = following(trigger, moment)
    assert following(trigger, moment + int((tick - 1 - moment) * share)) == tick


def test_a_moment_a_fraction_before_a_tick_is_followed_by_that_tick():
    trigger = cron("0 6 * * *", tz="UTC")
    assert following(trigger, 6 * HOUR - 0.5) == 6 * HOUR
    assert following(trigger, 6 * HOUR) == 30 * HOUR


def test_a_leap_day_is_waited_for():
    assert following(cron("0 0 29 2 *", tz="UTC"), unix("2096-02-29T00:00:00+00:00")) == unix(
        "2104-02-29T00:00:00+00:00"
    )


def test_a_star_hour_on_a_rare_date_is_found_across_many_changes_of_the_clocks():
    trigger = cron("0 * 29 2 *", tz="Europe/Paris")
    assert following(trigger, unix("2024-07-01T00:00:00+02:00")) == unix("2028-02-29T00:00:00+01:00")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@hourly", "1970-01-01T01:00:00+00:00"),
        ("@daily", "1970-01-02T00:00:00+00:00"),
        ("@Weekly", "1970-01-04T00:00:00+00:00"),
        ("@monthly", "1970-02-01T00:00:00+00:00"),
        ("@yearly", "1971-01-01T00:00:00+00:00"),
        ("* * * * * */20", "1970-01-01T00:00:20+00:00"),
        ("0 0 * * sun", "1970-01-04T00:00:00+00:00"),
        ("  0   9 l * * ", "1970-01-31T09:00:00+00:00"),
        ("30-30 * * * *", "1970-01-01T00:30:00+00:00"),
        ("0 5-5 * * mon-mon", "1970-01-05T05:00:00+00:00"),
    ],
)
def test_cron_has_five_fields_or_six_or_a_word(expression, expected):
    assert following(cron(expression, tz="UTC"), 0) == unix(expected)


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("61 * * * *", "its minute field, '61'"),
        ("* 24 * * *", "its hour field, '24'"),
        ("* * 32 * *", "its day field, '32'"),
        ("* * * foo *", "its month field, 'foo'"),
        ("* * * * 9", "its weekday field, '9'"),
        ("* * * * * 60", "its second field, '60'"),
        ("R * * * *", "its minute field, 'R'"),
        ("0 H(1-30) * * *", r"its hour field, 'H\(1-30\)'"),
        ("0 H(3-1) * * *", r"its hour field, 'H\(3-1\)'"),
        ("H(0-9)/11 * * * *", r"its minute field, 'H\(0-9\)/11'"),
        ("H/0 * * * *", "its minute field"),
        ("5,R * * * *", "its minute field, '5,R'"),
        ("* * * * * * H", "it has 7 fields"),
        ("*/0 * * * *", "its minute field"),
        ("* * * *", "it has 4 fields, not 5"),
        ("* * * * * * *", "it has 7 fields"),
        ("", "it has 0 fields"),
        ("@reboot", "no such word"),
        ("0 0 30 2 *", "matches no date"),
        ("0 0 31 4,6 *", "matches no date"),
    ],
)
def test_a_wrong_cron_expression_is_refused_with_its_fault(expression, fault):
    with pytest.raises(ValueError, match=fault) as refused:
        cron(expression, tz="UTC")
    assert repr(expression) in str(refused.value)


@settings(deadline=None)
@given(st.lists(st.text("0123456789*/-,#lwhrLW?@MONjan\u0663", min_size=1, max_size=6), min_size=5, max_size=6))
def test_any_expression_is_a_trigger_or_a_value_error(fields):
    try:
        assert following(cron(" ".join(fields), tz="UTC"), NOW) > NOW
    except ValueError as refused:
        assert "cron expression" in str(refused)  # noqa: PT017 - most are refused, but not all


@pytest.mark.parametrize(
    ("zone", "advice"),
    [
        ("Europe/Pari", "did you mean 'Europe/Paris'"),
        ("america/new york", "did you mean 'America/New_York'"),
        ("Tokyo", "did you mean 'Asia/Tokyo'"),
        ("America", "unknown time zone 'America'"),
        ("", "write an IANA name"),
        ("../etc/passwd", "unknown time zone"),
        ("Qxzzy", 'write an IANA name such as "Europe/Paris"'),
    ],
)
def test_an_unknown_zone_is_refused_with_a_suggestion(zone, advice):
    with pytest.raises(ValueError, match=advice):
        cron("@daily", tz=zone)


def test_a_zone_may_be_a_zoneinfo():
    assert cron("@daily", tz=ZoneInfo("Asia/Tokyo")) == cron("@daily", tz="Asia/Tokyo")


def test_without_a_zone_cron_means_the_machine_s_own(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert cron("@daily").zone == "Asia/Tokyo"


@pytest.mark.parametrize("zone", [5, timezone.utc])
def test_what_is_no_zone_at_all_is_a_type_error(zone):
    with pytest.raises(TypeError, match="tz must be the name of a time zone"):
        cron("@daily", tz=zone)


def test_what_is_no_text_is_no_cron_expression():
    with pytest.raises(TypeError, match="a cron expression must be text"):
        cron(5)


# -- every, at --


def test_an_interval_starts_from_now():
    assert first(every("10m"), NOW) == NOW + 600
    assert following(every("10m"), NOW) == NOW + 600


def test_a_cron_trigger_starts_at_its_next_tick():
    assert first(cron("0 * * * *", tz="UTC"), HOUR) == 2 * HOUR


@pytest.mark.parametrize("interval", [0, 0.009, "0s", -1, "soon", float("nan")])
def test_an_interval_must_be_a_hundredth_of_a_second_or_more(interval):
    with pytest.raises(ValueError, match=r"^interval "):
        every(interval)


def test_a_negative_jitter_is_refused():
    with pytest.raises(ValueError, match="jitter must not be negative"):
        every(1, jitter=-1)


@pytest.mark.parametrize("wrong", ["latest", None, []])
def test_catch_up_is_one_of_three_words(wrong):
    with pytest.raises(ValueError, match='catch_up must be "one", "all" or "none", got '):
        check_catch_up(wrong)


@pytest.mark.parametrize("when", [NOW - DAY, NOW, NOW + DAY])
def test_an_instant_fires_once_and_at_once_if_it_is_past(when):
    trigger = At(when)
    assert first(trigger, NOW) == when
    assert following(trigger, when) is None
    assert due(trigger, when, NOW) == (Due((), when) if when > NOW else Due((when,), None))


# -- due: what was missed --

MINUTELY = [every(60), cron("* * * * *", tz="UTC")]


@pytest.mark.parametrize("trigger", MINUTELY)
@pytest.mark.parametrize("how", ["one", "all", "none"])
def test_nothing_is_fired_before_it_is_due(trigger, how):
    assert due(trigger, 60, 59.9, how) == Due((), 60)


@pytest.mark.parametrize("trigger", MINUTELY)
@pytest.mark.parametrize("how", ["one", "all", "none"])
def test_a_tick_on_time_is_fired_once(trigger, how):
    assert due(trigger, 60, 60, how) == Due((60,), 120)


@pytest.mark.parametrize("trigger", MINUTELY)
def test_of_many_missed_ticks_one_fires_the_latest(trigger):
    assert due(trigger, 60, 365) == Due((360,), 420)


@pytest.mark.parametrize("trigger", MINUTELY)
def test_of_many_missed_ticks_all_fires_each_up_to_the_limit(trigger):
    assert due(trigger, 60, 365, "all") == Due((60, 120, 180, 240, 300, 360), 420)
    assert due(trigger, 60, 365, "all", limit=2) == Due((60, 120), 180)


@pytest.mark.parametrize("trigger", MINUTELY)
@pytest.mark.parametrize(("now", "fired"), [(365, (360,)), (370, (360,)), (370.5, ()), (419, ())])
def test_none_skips_what_is_over_ten_seconds_late(trigger, now, fired):
    assert due(trigger, 60, now, "none") == Due(fired, 420)


def test_a_single_moment_that_is_over_ten_seconds_late_is_skipped_by_none():
    assert [due(At(60), 60, now, "none").ticks for now in (70, 70.5)] == [(60,), ()]


def test_a_due_time_that_is_no_tick_of_the_trigger_is_fired_all_the_same():
    assert due(cron("@daily", tz="UTC"), 100, 200) == Due((100,), DAY)


@pytest.mark.parametrize("trigger", [every(1), cron("* * * * * *", tz="Europe/Paris")])
def test_of_ten_years_of_missed_seconds_the_latest_is_found_without_a_walk(trigger):
    assert due(trigger, NOW - 10 * 365 * DAY, NOW) == Due((NOW,), NOW + 1)  # a walk would take hours


@settings(deadline=None)
@given(st.floats(0.01, 1e6), st.floats(0, 1e9))
def test_an_interval_fires_a_past_tick_and_names_a_future_one_on_its_grid(interval, late):
    found = due(every(interval), NOW, NOW + late)
    assert found.ticks[0] <= NOW + late < found.next_at <= NOW + late + interval + 1e-6
    assert found.next_at - found.ticks[0] == pytest.approx(interval, abs=1e-5)
    assert abs((found.next_at - NOW) / interval - round((found.next_at - NOW) / interval)) < 1e-3


@settings(max_examples=50, deadline=None)
@given(moments, zones, st.sampled_from(["*/30 * * * *", "30 2 * * *", "0 */6 * * *"]), st.integers(0, 5 * DAY))
def test_one_fires_the_last_of_those_that_all_would_fire(moment, zone, expression, late):
    next_at = following(cron(expression, tz=zone), moment)
    each = due(cron(expression, tz=zone), next_at, next_at + late, "all")
    assert due(cron(expression, tz=zone), next_at, next_at + late) == Due(each.ticks[-1:], each.next_at)
    assert list(each.ticks) == [next_at, *ticks(cron(expression, tz=zone), next_at, next_at + late + 1)]


# -- the wall clock was set back --


def test_an_interval_waits_no_longer_than_itself_after_the_clock_is_set_back():
    assert due(every(60, jitter=5), NOW + 65, NOW) == Due((), NOW + 65)
    assert due(every(60, jitter=5), NOW + DAY, NOW) == Due((), NOW + 60)


def test_a_cron_trigger_does_not_wait_for_years_after_the_clock_is_set_back():
    assert due(cron("@daily", tz="UTC"), 70 * 365 * DAY, HOUR) == Due((), DAY)


def test_a_cron_tick_is_not_fired_again_when_the_clock_is_set_back_a_little():
    fired = due(cron("@daily", tz="UTC"), DAY, DAY)
    assert due(cron("@daily", tz="UTC"), fired.next_at, DAY - 30) == Due((), 2 * DAY)


# -- stored and shown --

TRIGGERS = [
    Cron("0 6 * * *", "Europe/Paris"),
    Every(600.0, 5.0),
    every(0.01),
    at("2026-11-23T06:00:00.25Z"),
    at(datetime(1969, 1, 1, tzinfo=timezone.utc)),
]


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_stored_trigger_comes_back_the_same(trigger):
    assert decode(encode(trigger)) == trigger


@pytest.mark.parametrize(
    "text",
    [
        *["", "{", "null", "[]", "5", "{}", pytest.param("[" * 100_000, id="deep")],
        *['{"at": true}', '{"at": 1e300}', '{"at": NaN}', '{"at": "x"}'],
        *['{"every": 0, "jitter": 0}', '{"every": 1, "jitter": []}'],
        *['{"cron": 5, "zone": "UTC"}', '{"cron": "@daily", "zone": null}'],
    ],
)
def test_garbage_is_not_decoded(text):
    with pytest.raises(ValueError, match="not a stored trigger"):
        decode(text)


@pytest.mark.parametrize(
    ("trigger", "line"),
    [
        (cron("0  6 * * *", tz="Europe/Paris"), "cron 0 6 * * * Europe/Paris"),
        (every("10m"), "every 10m"),
        (every("1h30m", jitter="30s"), "every 1h30m jitter 30s"),
        (at("2026-11-23T07:00:00+01:00"), "at 2026-11-23T06:00:00+00:00"),
    ],
)
def test_a_trigger_is_described_in_a_line(trigger, line):
    assert describe(trigger) == line


def test_croniter_is_not_imported_before_a_cron_trigger_is_made():
    program = "import sys, litequeue.scheduling.triggers as s; s.every(1); assert 'croniter' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
