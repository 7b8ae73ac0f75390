"""What an error makes of a job: decided without a store."""

from datetime import timedelta

import pytest

from litequeue import GiveUp, JobCancelled, Retry, Snooze
from litequeue.core.outcome import Cancelled, Failed, Retried, Snoozed
from litequeue.core.records import Claimed
from litequeue.core.retry import LONGEST_DELAY, after_error, delay_before, describe, policy
from litequeue.errors import DecodeError, EncodeError

NOW = 1_000_000.0


def job(failures=0, retries=None):
    return Claimed("7", 1, "t", "default", b"[[],{}]", 0, failures, 0, None, retries, None, NOW)


def rule(retries=3, backoff=10, retry_on=None, give_up_on=None):
    return policy(retries, backoff, retry_on, give_up_on)


@pytest.mark.parametrize(("failures", "kind"), [(0, Retried), (2, Retried), (3, Failed), (9, Failed)])
def test_a_job_is_tried_again_until_its_retries_are_used_up(failures, kind):
    assert isinstance(after_error(job(failures), ValueError(), rule(3), NOW), kind)


def test_the_jobs_own_retries_come_before_its_tasks():
    assert isinstance(after_error(job(retries=0), ValueError(), rule(3), NOW), Failed)
    assert isinstance(after_error(job(retries=1), ValueError(), rule(0), NOW), Retried)


def test_the_next_try_is_after_the_backoff():
    assert after_error(job(), ValueError(), rule(backoff=10), NOW).run_at == NOW + 10


def test_retry_may_name_its_own_delay_down_to_none():
    assert after_error(job(), Retry(delay="1m"), rule(), NOW).run_at == NOW + 60
    assert after_error(job(), Retry(delay=0), rule(), NOW).run_at == NOW


def test_snooze_uses_up_nothing_even_when_nothing_is_left():
    assert after_error(job(failures=9), Snooze(5), rule(0), NOW) == Snoozed(NOW + 5)


@pytest.mark.parametrize("error", [GiveUp(), EncodeError(""), DecodeError("")])
def test_some_errors_are_never_tried_again(error):
    assert isinstance(after_error(job(), error, rule(retry_on=Exception), NOW), Failed)


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt()])
def test_what_ends_programs_is_tried_again_only_when_named(error):
    assert isinstance(after_error(job(), error, rule(), NOW), Failed)
    assert isinstance(after_error(job(), error, rule(retry_on=BaseException), NOW), Retried)


def test_give_up_on_comes_before_retry_on():
    assert isinstance(after_error(job(), KeyError(), rule(retry_on=LookupError, give_up_on=KeyError), NOW), Failed)
    assert isinstance(after_error(job(), IndexError(), rule(retry_on=LookupError, give_up_on=KeyError), NOW), Retried)


def test_a_job_that_says_it_is_cancelled_is():
    assert after_error(job(), JobCancelled(), rule(), NOW) == Cancelled()


@pytest.mark.parametrize(("failures", "longest"), [(1, 1), (2, 2), (3, 4), (12, 2048), (13, 3600), (10_000, 3600)])
def test_exponential_backoff_doubles_to_an_hour_and_has_full_jitter(failures, longest):
    assert delay_before(None, failures, 1.0) == longest
    assert delay_before(None, failures, 0.0) == 0.0
    assert delay_before(None, failures, 0.5) == longest / 2
    assert longest <= LONGEST_DELAY


def test_backoff_may_be_a_duration_a_list_or_a_function():
    assert delay_before(rule(backoff="2m").backoff, 5, 0.5) == 120
    listed = rule(backoff=[1, "10s", timedelta(minutes=1)]).backoff
    assert [delay_before(listed, n, 0.5) for n in (1, 2, 3, 4)] == [1, 10, 60, 60]
    assert delay_before(rule(backoff=lambda n: f"{n}m").backoff, 2, 0.5) == 120


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": True},
        {"retries": 1.5},
        {"backoff": []},
        {"backoff": -1},
        {"backoff": "soon"},
        {"backoff": b"x"},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        rule(**options)


@pytest.mark.parametrize("errors", ["ValueError", [ValueError], (ValueError, int), ValueError()])
def test_errors_are_named_by_class(errors):
    with pytest.raises(TypeError, match="retry_on must be an exception class"):
        rule(retry_on=errors)


def caught(function):
    with pytest.raises(Exception) as caught:  # noqa: PT011  whatever it raises is described
        function()
    return caught.value


def test_an_error_is_described_by_type_message_and_trace():
    info = describe(caught(lambda: {}["user"]))
    assert (info.type, info.message) == ("KeyError", "'user'")
    assert "Traceback" in info.traceback
    assert '{}["user"]' in info.traceback


def test_a_cause_is_part_of_the_trace():
    def send():
        try:
            open("/no/such/file")  # noqa: SIM115
        except OSError as cause:
            raise ValueError("mail") from cause

    assert "FileNotFoundError" in describe(caught(send)).traceback


def test_the_end_of_a_long_trace_is_kept():
    assert describe(ValueError("x" * 100_000 + "end")).traceback.rstrip().endswith("end")


def test_an_exception_whose_very_name_cannot_be_stored_is_described():
    odd = type("Odd", (Exception,), {"__module__": "app", "__qualname__": "Odd\ud800"})
    assert describe(odd("x")).type == "app.Odd\\ud800"
