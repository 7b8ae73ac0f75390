"""Tools for the tests of programs that use litequeue: a clock that moves only when told to."""

from litequeue.testing.clock import ManualClock

__all__ = ["ManualClock"]
