import os
import signal

import pytest

from litequeue.worker.signals import MOMENT, SignalFile, Signals, Stops


@pytest.mark.parametrize(
    ("moments", "stops"),
    [
        ([0.0], 1),
        ([0.0, 0.02, 0.9 * MOMENT], 1),
        ([0.0, MOMENT], 2),
        ([0.0, 0.9 * MOMENT, 1.8 * MOMENT], 2),  # counted from the first of a stop, else pressing on would be none
        ([0.0, MOMENT, 1.5 * MOMENT, 2 * MOMENT], 3),
        ([0.1, 0.0], 1),  # a handler amid which another ran comes to its own signal later
    ],
)
def test_what_is_told_within_a_moment_of_a_stop_is_that_stop(moments, stops):
    told = Stops()
    counts = [told.tell(1000.0 + moment) for moment in moments]
    assert counts[-1] == stops
    assert counts == sorted(counts)


class Ending:
    """A listener that ends by itself, just when it is told to stop."""

    returns, drained = False, False

    def __init__(self):
        self.stops = Stops()

    def note_stop(self):
        pass

    def told(self, who, times):
        self.drained = True


def test_a_signal_that_meets_the_end_of_the_last_worker_is_passed_on():
    handlers, passed_on = Signals(), []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: passed_on.append(number))
    listener = Ending()
    handlers.add(listener)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        handlers.remove(listener)
        signal.signal(signal.SIGTERM, before)
    assert passed_on == [signal.SIGTERM]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="POSIX signals")
def test_signals_that_come_by_the_thousand_do_not_let_the_file_of_their_numbers_grow(tmp_path):
    path = tmp_path / "numbers"
    path.write_bytes(b"before")
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.lseek(descriptor, 6, os.SEEK_SET)
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    written = SignalFile(descriptor)
    try:
        for _ in range(10):
            for _ in range(100):
                os.kill(os.getpid(), signal.SIGUSR2)
            written.rewind()
    finally:
        written.close()
        signal.signal(signal.SIGUSR2, before)
    assert path.read_bytes() == b"before" + bytes([signal.SIGUSR2]) * 100
