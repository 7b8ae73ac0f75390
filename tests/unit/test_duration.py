"""Durations and instants as users write them, the manual clock, and the machine's zone."""

import math
import zoneinfo
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litequeue.core import clock, duration
from litequeue.testing import ManualClock


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("1w", 604_800),
        ("1w2d3h4m5s6ms", 788_645.006),
        ("1m1ms", 60.001),
        (" 1H 30M ", 5400),
        ("30", 30),
        ("0.5", 0.5),
        ("0s", 0),
        (30, 30),
        (1.5, 1.5),
        (timedelta(minutes=1, milliseconds=5), 60.005),
    ],
)
def test_a_duration_may_be_text_a_number_or_a_timedelta(written, expected):
    assert duration.seconds(written) == expected


WRONG_TEXT = ["", " ", "abc", "10x", "m", "30m1h", "1m1m", "1 2", "1e3", "-5s", "5s-", "1..5h", "\u0663s", "nan", "inf"]
WRONG_NUMBERS = [-1, -0.001, math.nan, math.inf, 1e300, 10**400]


@pytest.mark.parametrize("wrong", [*WRONG_TEXT, *WRONG_NUMBERS, timedelta(seconds=-1), "9" * 400])
def test_a_wrong_duration_is_refused_with_its_name_and_what_to_write(wrong):
    with pytest.raises(ValueError, match=r"^timeout .*write text such as") as refused:
        duration.seconds(wrong, "timeout")
    assert repr(wrong) in str(refused.value)


@pytest.mark.parametrize("wrong", [None, True, False, b"5s", [], 1j])
def test_what_is_no_duration_at_all_is_a_type_error(wrong):
    with pytest.raises(TypeError, match=r"^delay must be a duration, got .*write"):
        duration.seconds(wrong, "delay")


@given(st.integers(0, 10**9))
def test_whole_seconds_come_through_unchanged_however_written(count):
    assert duration.seconds(count) == duration.seconds(str(count)) == duration.seconds(f"{count}s") == count


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(written):
    try:
        assert duration.seconds(written) >= 0
    except ValueError as refused:
        assert repr(written) in str(refused)  # noqa: PT017 - most texts are refused, but not all


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, "0s"),
        (0.0001, "0.1ms"),
        (0.012, "12ms"),
        (0.9996, "1s"),
        (1.5, "1.5s"),
        (30, "30s"),
        (59.97, "1m"),
        (125, "2m05s"),
        (600, "10m"),
        (3599.6, "1h"),
        (11_400, "3h10m"),
        (3_900, "1h05m"),
        (86_399, "1d"),
        (187_200, "2d4h"),
        (-90, "-1m30s"),
        (math.inf, "inf"),
    ],
)
def test_a_duration_is_shown_in_at_most_two_units(length, expected):
    assert duration.text(length) == expected


@given(st.floats(0.001, 1e8))
def test_the_short_text_is_a_duration_close_to_the_true_one(length):
    assert duration.seconds(duration.text(length)) == pytest.approx(length, rel=0.06)


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-23T06:00:00Z",
        "2026-11-23T06:00:00z",
        "2026-11-23 07:00:00+01:00",
        "2026-11-23T07:00:00+0100",
        "2026-11-23T06:00Z",
        " 2026-11-23T06:00:00.0Z ",
        "2026-11-23T06:00:00.000000000+00:00",
        datetime(2026, 11, 23, 6, tzinfo=timezone.utc),
        datetime(2026, 11, 23, 7, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    ],
)
def test_an_instant_may_be_an_aware_datetime_or_iso_text(written):
    assert duration.instant(written) == 1_795_413_600


def test_a_fraction_of_a_second_is_kept():
    assert duration.instant("1970-01-01T00:00:00.25Z") == 0.25


def test_a_naive_datetime_is_refused_and_told_how_to_become_aware():
    with pytest.raises(ValueError, match=r"at is a naive datetime.*replace\(tzinfo=ZoneInfo\(.*astimezone"):
        duration.instant(datetime(2026, 11, 23, 6))  # noqa: DTZ001 - naive on purpose


@pytest.mark.parametrize("written", ["2026-11-23T06:00:00", "2026-11-23 06:00"])
def test_iso_text_without_an_offset_is_refused(written):
    with pytest.raises(ValueError, match=r"expires has no time zone: .*add an offset"):
        duration.instant(written, "expires")


@pytest.mark.parametrize("written", ["", "tomorrow", "2026-13-01T00:00:00Z", "Z", "6:00Z"])
def test_text_that_is_no_instant_is_refused(written):
    with pytest.raises(ValueError, match=r"^at is not ISO text: .*write such as"):
        duration.instant(written)


@pytest.mark.parametrize("wrong", [None, 1_700_000_000, date(2026, 11, 23)])
def test_what_is_no_instant_at_all_is_a_type_error(wrong):
    with pytest.raises(TypeError, match=r"^at must be an aware datetime or ISO text"):
        duration.instant(wrong)


def test_advancing_the_manual_clock_moves_both_clocks():
    manual = ManualClock()
    wall, monotonic = manual.now(), manual.monotonic()
    manual.advance("3d")
    manual.advance(timedelta(hours=1))
    manual.advance(1)
    assert manual.now() - wall == manual.monotonic() - monotonic == 262_801


def test_stepping_the_manual_clock_moves_the_wall_clock_alone():
    manual = ManualClock(start=1000)
    monotonic = manual.monotonic()
    manual.step(-600)
    assert (manual.now(), manual.monotonic()) == (400, monotonic)


def test_the_manual_clock_cannot_advance_backwards():
    with pytest.raises(ValueError, match="advance must not be negative"):
        ManualClock().advance(-1)


def test_the_system_clock_goes_on():
    system = clock.SystemClock()
    assert system.now() > 1_700_000_000
    assert system.monotonic() <= system.monotonic()
