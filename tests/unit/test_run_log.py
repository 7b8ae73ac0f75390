"""The log of one run in memory, what is new in logs that grow, and the option that says how much is kept."""

import logging
import threading

import pytest

from litequeue.core.outcome import Cancelled, ErrorInfo, Failed, Succeeded
from litequeue.core.run_logs import Position, RunText, Tail, checked_job_logs, in_words
from litequeue.serialization.json_codec import JsonCodec
from litequeue.worker.executor.run_log import RunLog

AT = 1_796_040_000.123


def record(text, *arguments, level=logging.INFO, name="shop", **more):
    made = logging.LogRecord(name, level, __file__, 1, text, arguments, more.get("exc_info"))
    made.created = AT
    return made


def kept(log):
    stored = log.kept(JsonCodec())
    return None if stored is None else JsonCodec().decode(stored.data)


def test_a_line_has_its_time_level_logger_and_text():
    log = RunLog(1024)
    log.add(record("packing %d boxes", 3))
    assert kept(log) == "2026-11-30 12:00:00.123 INFO shop: packing 3 boxes\n"


def test_a_traceback_follows_its_line():
    log = RunLog(4096)
    try:
        int("torn")
    except ValueError as error:
        log.add(record("oops", exc_info=(ValueError, error, error.__traceback__)))
    first, second, *_, last = kept(log).splitlines()
    assert (first[-4:], second) == ("oops", "Traceback (most recent call last):")
    assert last.startswith("ValueError: invalid literal")


def test_the_oldest_records_are_dropped_and_counted():
    log = RunLog(1024)
    for number in range(100):
        log.add(record("line %02d é", number))
    text, stored = kept(log), log.kept(JsonCodec())
    lines = text.splitlines()
    assert len(text.encode()) <= 1024
    assert lines[-1].endswith("line 99 é")
    assert stored.dropped == 100 - len(lines)
    assert stored.written == 100 * len(lines[0].encode() + b"\n")
    assert in_words([RunText(1, stored.written, stored.dropped, text)]) == (
        f"({stored.dropped} earlier records were dropped)\n{text}"
    )


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_a_line_longer_than_all_that_is_kept_is_cut(letter):
    log = RunLog(1024)
    log.add(record(letter * 5000))
    text = kept(log)
    assert len(text.encode()) <= 1024
    assert text.endswith(f"{letter} ... (cut)\n")


def test_a_record_whose_text_cannot_be_made_raises_nothing():
    class Torn:
        def __str__(self):
            raise ZeroDivisionError

    log = RunLog(1024)
    log.add(record("%s", Torn()))
    log.add(record("%d", "three"))
    log.add(record(Torn()))
    assert "could not be made: ZeroDivisionError" in kept(log)
    assert kept(log).count("\n") == 3


def test_text_that_no_file_holds_is_escaped():
    log = RunLog(1024)
    log.add(record("lone \ud800 and \0"))
    assert kept(log).endswith("lone \\ud800 and \0\n")


def test_the_end_is_a_line_of_its_own_unless_it_is_a_success():
    ends = {Succeeded(b""): None, Cancelled(): "the job was cancelled"}
    ends[Failed(ErrorInfo("E", "why", "trace"))] = "the run failed: E: why"
    for outcome, said in ends.items():
        log = RunLog(1024)
        log.end(outcome, AT)
        log.add(record("too late"))
        text = kept(log)
        assert text is None if said is None else text.endswith(f"litequeue: {said}\n")


def test_a_thread_that_logs_waits_for_no_other():
    log = RunLog(1024)
    with log._lock:  # as a reader, or a thread that a fork has left behind
        log.add(record("one"))
        assert log.has_news
    log.add(record("two"))
    assert [line[-3:] for line in kept(log).splitlines()] == ["one", "two"]
    assert not log.has_news


def test_many_threads_lose_nothing():
    log = RunLog(1024 * 1024)
    threads = [threading.Thread(target=lambda: [log.add(record("x")) for _ in range(500)]) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert kept(log).count("\n") == 4000


def test_a_codec_that_refuses_leaves_the_end_alone():
    class Refusing(JsonCodec):
        def encode(self, value):
            raise ValueError("no")

    log = RunLog(1024)
    log.add(record("x"))
    assert log.kept(Refusing()) is None


def test_a_reader_is_told_what_is_new():
    tail = Tail()
    assert [piece.shown for piece in tail.news([RunText(1, 4, 0, "one\n")])] == ["one\n"]
    assert tail.news([RunText(1, 4, 0, "one\n")]) == []
    news = tail.news([RunText(1, 8, 0, "one\ntwo\n"), RunText(2, 3, 0, "é\n")])
    assert [piece.shown for piece in news] == ["two\n", "-- run 2 --\né\n"]
    assert tail.position == Position(2, 3)
    assert tail.news([RunText(1, 9, 0, "late")]) == []


def test_a_reader_that_was_too_slow_is_told_so():
    tail = Tail(Position(1, 4))
    [piece] = tail.news([RunText(1, 100, 9, "last\n")])
    assert piece.text == "(more was logged since than is kept: the older part is dropped)\nlast\n"


@pytest.mark.parametrize(("given", "size"), [("64KiB", 65536), (2000, 2000), (False, 0), (None, 0), ("16MiB", 2**24)])
def test_sizes_of_logs(given, size):
    assert checked_job_logs(given) == size


@pytest.mark.parametrize("wrong", [True, 0, -1, 1023, "1B", "17MiB", "much", 1.5, []])
def test_a_wrong_size_says_what_to_write(wrong):
    with pytest.raises((ValueError, TypeError), match="job_logs"):
        checked_job_logs(wrong)


def test_what_a_task_says_counts_before_its_queue():
    assert [checked_job_logs(given, 5000) for given in (None, False, "1KiB")] == [5000, 0, 1024]
