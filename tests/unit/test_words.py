"""Triggers in plain English."""

import pytest
from hypothesis import given, settings

from litequeue import at, cron, every, first_of
from litequeue.scheduling.start import start
from litequeue.scheduling.triggers import decode, encode, named
from litequeue.scheduling.words import words
from unit.test_cron_ticks import expressions


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 6 * * *", "every day at 06:00 Europe/Paris"),
        ("@daily", "every day at 00:00 Europe/Paris"),
        ("0 6,18 * * *", "every day at 06:00 and 18:00 Europe/Paris"),
        ("0 6 * * * 30", "every day at 06:00:30 Europe/Paris"),
        ("*/15 * * * *", "every 15 minutes"),
        ("* * * * * */20", "every 20 seconds"),
        ("@hourly", "every hour"),
        ("30 */2 * * *", "every 2 hours at minute 30"),
        ("*/15 * * * mon-fri", "every 15 minutes, on weekdays (Europe/Paris)"),
        ("*/10 9-17 * * 1-5", "every 10 minutes from 09:00 to 17:59, on weekdays (Europe/Paris)"),
        ("0 9-17 * * *", "every hour from 09:00 to 17:00 (Europe/Paris)"),
        ("0 9 1 * 1", "on the 1st of the month, or on Mondays, at 09:00 Europe/Paris"),
        ("0 7 1,15 * ?", "on the 1st and 15th of the month at 07:00 Europe/Paris"),
        ("0 0 l * *", "on the last day of the month at 00:00 Europe/Paris"),
        ("0 12 * * fri#2", "on the second Friday of the month at 12:00 Europe/Paris"),
        ("0 12 * * L5", "on the last Friday of the month at 12:00 Europe/Paris"),
        ("0 8 * jan,7 *", "every day in January and July at 08:00 Europe/Paris"),
        ("0 8 25 12 *", "on the 25th of December at 08:00 Europe/Paris"),
        ("0 6 * 6 mon,7", "on Mondays and Sundays in June at 06:00 Europe/Paris"),
        ("0 6 * * sat,sun", "at weekends at 06:00 Europe/Paris"),
        ("H 3 * * *", "every day at 03:43 Europe/Paris"),
        ("5,35 * * * *", "cron 5,35 * * * * Europe/Paris"),
        ("*/7 * * * *", "cron */7 * * * * Europe/Paris"),
        ("0 0 */2 * *", "cron 0 0 */2 * * Europe/Paris"),
        ("0 0 15w * *", "cron 0 0 15w * * Europe/Paris"),
    ],
)
def test_a_cron_expression_is_said_in_words_or_as_it_is(expression, said):
    assert words(named(cron(expression, tz="Europe/Paris"), "report")) == said


@settings(max_examples=30, deadline=None)
@given(expressions)
def test_every_cron_expression_is_said_somehow(expression):
    assert words(cron(expression, tz="UTC"))


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        (every("15m"), "every 15 minutes"),
        (every("1h"), "every hour"),
        (every("1d"), "every day"),
        (every("90s", jitter=5), "every 90 s, up to 5 s late by chance"),
        (every("1h", jitter="1m"), "every hour, up to 1 minute late by chance"),
        (every("1h30m10s"), "every 1h30m"),
        (every("1h", first_at="2026-12-01T09:00:00Z"), "every hour from 2026-12-01 09:00 UTC on"),
        (every("1 month", at="09:00", tz="UTC"), "every month on the 15th at 09:00 UTC"),
        (every("2 weeks", at="09:00", tz="UTC"), "every 2 weeks on Friday at 09:00 UTC"),
        (every("1 year", at="09:00", tz="UTC"), "every year on 15 January at 09:00 UTC"),
        (every("3 days", at="09:00", tz="UTC"), "every 3 days at 09:00 UTC"),
        (at("2026-12-01T10:00:00+01:00"), "at 2026-12-01 09:00 UTC"),
        (first_of(cron("@daily", tz="UTC"), every("2h")), "every day at 00:00 UTC, or every 2 hours"),
    ],
)
def test_other_triggers_are_said_in_words(trigger, said):
    assert words(decode(start(encode(trigger), 1_800_000_000).trigger)) == said  # a Friday, the 15th of January


def test_a_date_that_some_months_lack_is_said_with_what_comes_instead():
    monthly = every("1 month", first_at="2026-01-31T09:00:00Z", tz="UTC")
    assert words(monthly) == "every month on the 31st or its last day at 09:00 UTC from 2026-01-31 09:00 UTC on"
    assert words(every("1 month", at="09:00", tz="UTC")) == "every month at 09:00 UTC"
