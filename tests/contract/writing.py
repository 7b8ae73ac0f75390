"""What the one connection that writes is doing, for tests that must act at just that moment."""

from crash.watching import until
from litequeue.sqlite.commit.fair_lock import FairLock


def is_taken(writer):
    """Tell whether a caller, or the writer thread, has the connection; that takes a moment."""
    return writer.changes() is None


def backlog(writer):
    """How many callers wait for the connection, or for their work to be begun. No public name tells of a thread."""
    return len(writer._queue._waiting)


def until_backlog(writer, number):
    """Wait until so many callers wait."""
    until(lambda: backlog(writer) == number, f"{number} callers wait")


def crowd(database):
    """Have the next writes of all processes go through the fair lock."""
    lock = FairLock(database)
    lock.enter_at_once()
    lock.leave()
    lock.crowded()
    lock.close()


def can_enter(database):
    """Tell whether the fair lock is free, once the next writes go through it."""
    lock = FairLock(database)
    try:
        lock.enter_at_once()
        lock.leave()
        lock.crowded()
        return lock.enter_at_once()
    finally:
        lock.leave()
        lock.close()
