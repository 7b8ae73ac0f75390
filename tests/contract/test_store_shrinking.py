"""How a file becomes smaller: chunks end by the clock and by bytes, pages are given back, the WAL is moved."""

import itertools

from contract.jobs import SUCCEEDED, Hands, new, put
from litequeue.sqlite.file import free_pages
from litequeue.sqlite.jobs import control
from litequeue.sqlite.parts import maintenance


def end(store, *payloads):
    """Store such jobs, and end them so that they are to be deleted at once."""
    store.jobs.submit([new(payload=payload) for payload in payloads])
    hands = Hands(store)
    hands.settle(*[(job, SUCCEEDED) for job in hands.claim(len(payloads))], keep_for=0.0)


def test_a_chunk_ends_when_its_time_is_up(store, clock, monkeypatch):
    monkeypatch.setattr(control, "SLICE", 3)
    end(store, *[b""] * 12)
    monkeypatch.setattr(clock, "monotonic", itertools.count(1).__next__)  # each look takes a second
    assert [store.maintenance.prune() for _ in range(5)] == [3, 3, 3, 3, 0]


def test_a_chunk_of_large_jobs_ends_by_their_bytes(store, monkeypatch):
    """Payloads, results and errors count; a job that is larger than all that is deleted alone."""
    monkeypatch.setattr(control, "BUDGET", 10_000)
    end(store, b"", bytes(6000), bytes(6000), bytes(30_000), b"")
    now = store.clock.now()
    chunks = store.kernel.writer.run(lambda db: [control.prune(db, now, 9, lambda: True) for _ in range(5)])
    assert chunks == [2, 1, 1, 1, 0]


def test_a_file_that_keeps_its_free_pages_is_left_alone(store):
    """As of a copy that another program has made: it says that we made it."""
    store.kernel.writer.run_outside(lambda db: (db.rows("PRAGMA auto_vacuum = none"), db.rows("VACUUM")))
    spare(store, 300)
    assert (store.maintenance.vacuum(), pages(store, "freelist_count") > free_pages.KEPT + 100) == (0, True)


def spare(store, pages):
    """Make a file of small transactions that has some free pages more than are kept."""
    end(store, bytes(4000 * (free_pages.KEPT + pages)))
    put(store)
    assert store.maintenance.prune() == 1


def pages(store, what):
    return store.kernel.read(lambda db: db.rows(f"PRAGMA {what}"))[0][0]


def test_free_pages_are_given_back_but_for_some(store):
    spare(store, 300)
    store.maintenance.checkpoint()
    free, size = pages(store, "freelist_count"), store.path.stat().st_size
    assert store.maintenance.vacuum() == (free - free_pages.KEPT) * 4096
    assert (pages(store, "freelist_count"), store.maintenance.vacuum()) == (free_pages.KEPT, 0)
    assert store.maintenance.checkpoint() == 0
    assert store.path.stat().st_size == pages(store, "page_count") * 4096 < size
    assert store.admin.integrity() == []


def test_pages_are_given_back_until_the_time_is_up(store, clock, monkeypatch):
    spare(store, 300)
    ticks = itertools.count(1)
    monkeypatch.setattr(maintenance, "STEP", 20)
    monkeypatch.setattr(clock, "monotonic", lambda: next(ticks))  # each look takes a second
    assert 0 < store.maintenance.vacuum() <= 20 * 4096


def test_a_reader_keeps_the_wal_from_being_moved_and_is_told_of(store, connect):
    reader = connect()
    put(store)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM litequeue_jobs").fetchall() == [(1,)]
    put(store)
    assert store.maintenance.checkpoint() > 0
    reader.execute("COMMIT")
    assert store.maintenance.checkpoint() == 0


def test_one_worker_at_a_time_makes_the_file_smaller_alone(store, clock):
    one, two = Hands(store).number, Hands(store).number
    may = store.maintenance.may_shrink
    assert [may(one, alone=False), may(two, alone=False), may(one, alone=True)] == [True] * 3
    assert [may(two, alone=True), may(two, alone=False), may(one, alone=True)] == [False, False, True]
    clock.advance(2)
    assert not may(two, alone=True)
    clock.advance(2)  # it has died, or has other work
    assert [may(two, alone=True), may(one, alone=True)] == [True, False]
    clock.step(-3600)  # set back: no time so far ahead is one of ours
    assert may(one, alone=True)
