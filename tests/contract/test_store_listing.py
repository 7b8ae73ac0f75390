"""Listings: a block of jobs at a time, no more than they show, and beside each other."""

import itertools
import random
import threading
import tracemalloc

import pytest

from contract.jobs import START, new, put
from litequeue import JobNotFound
from litequeue.core.records import Status
from litequeue.sqlite import kernel as kernels
from litequeue.sqlite.jobs import listing
from litequeue.sqlite.jobs.states import NUMBER

FILL = """
INSERT INTO litequeue_jobs
    (id, task, queue, payload, state, priority, run_at, created_at, attempt,
     worker, started_at, finished_at, delete_at, tags)
VALUES (?, ?, ?, X'5b5d', ?, ?, 0, 0, 1, ?, ?, ?, ?, ?)
"""
STATES = (*[Status.SUCCEEDED] * 6, *Status)


def filled(store, count=400):
    """Put jobs of every kind there, with gaps between their ids; return them, newest first, as (id, fields)."""
    chance, rows, ids = random.Random(7), [], itertools.count(1)
    for _ in range(count):
        status = chance.choice(STATES)
        fields = {
            "status": status,
            "task": chance.choice("aab"),
            "queue": chance.choice("xxy"),
            "tag": chance.choice("rss"),
        }
        rows.append((next(itertools.islice(ids, chance.choice((0, 0, 0, 9)), None)), fields))
    store.kernel.writer.run(lambda db: db.many(FILL, [_row(job_id, fields, chance) for job_id, fields in rows]))
    return [(str(job_id), fields) for job_id, fields in reversed(rows)]


def _row(job_id, fields, chance):
    status, running, ended = fields["status"], fields["status"] is Status.RUNNING, fields["status"].finished
    return (
        *(job_id, fields["task"], fields["queue"], NUMBER[status], chance.choice((0, 0, 5))),
        *(1 if running else None, 0.0 if running else None, 0.0 if ended else None),
        *(START + 60 if ended else None, f'["{fields["tag"]}"]'),
    )


def walked(store, **where):
    """List page after page, until there is nothing older; return the ids."""
    found, page = [], store.jobs.list(**where)
    found += page
    while page.older is not None:
        page = store.jobs.list(**where, before=page.older)
        found += page
    return [job.id for job in found]


@pytest.fixture(params=[2, 10_000], ids=["many", "few"])
def small_blocks(request, monkeypatch):
    monkeypatch.setattr(listing, "FIRST_BLOCK", 5)
    monkeypatch.setattr(listing, "BLOCK", 11)
    monkeypatch.setattr(listing, "FEW", request.param)


@pytest.mark.usefixtures("small_blocks")
def test_every_way_to_look_finds_what_matches_once_and_newest_first(store):
    jobs = filled(store)
    given = {"status": (None, *Status), "task": (None, "b"), "queue": (None, "y"), "tag": (None, "r")}
    for values in itertools.product(*given.values()):
        where = {name: value for name, value in zip(given, values, strict=True) if value is not None}
        wanted = [job_id for job_id, fields in jobs if where.items() <= fields.items()]
        assert walked(store, **where, limit=1_000) == wanted, where
        assert walked(store, **where, limit=7) == wanted, where


@pytest.mark.usefixtures("small_blocks")
def test_a_listing_that_takes_too_long_gives_what_it_has_found_and_where_to_go_on(store, clock, monkeypatch):
    rare = put(store, "rare")
    put(store)
    store.jobs.submit([new() for _ in range(100)])
    newest = put(store, "rare")
    read = store.kernel.read_listing
    monkeypatch.setattr(store.kernel, "read_listing", lambda look: (read(look), clock.advance(1))[0])
    page = store.jobs.list(task="rare", timeout=2.5)
    assert [job.id for job in page] == [newest]
    assert int(rare) < int(page.older) < int(newest)
    assert [job.id for job in store.jobs.list(task="rare", before=page.older)] == [rare]
    assert store.jobs.list(task="rare").older is None


@pytest.mark.usefixtures("small_blocks")
def test_a_listing_holds_no_snapshot_from_one_block_to_the_next(store, monkeypatch):
    store.jobs.submit([new() for _ in range(60)])
    read, busy = store.kernel.read_listing, []

    def reading(look):
        found = read(look)
        put(store)
        [(is_busy, _, _)] = store.kernel.writer.run_outside(lambda db: db.rows("PRAGMA wal_checkpoint(TRUNCATE)"))
        busy.append(is_busy)
        return found

    monkeypatch.setattr(store.kernel, "read_listing", reading)
    assert store.jobs.list(task="none") == []
    assert len(busy) > 5
    assert set(busy) == {0}


def test_a_listing_reads_no_payloads_results_or_tracebacks(store):
    store.jobs.submit([new(payload=bytes(200_000)) for _ in range(20)])
    error = "INSERT INTO litequeue_errors VALUES (?, ?, 0, 'ValueError', ?, ?)"
    rows = [(job, attempt, "no " * 1_000, "t" * 50_000) for job in range(1, 21) for attempt in range(1, 11)]
    store.kernel.writer.run(lambda db: db.many(error, rows))
    store.jobs.list(limit=1)
    tracemalloc.start()
    found = store.jobs.list()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(found), len(found[0].last_error)) == (20, len("ValueError: ") + 200)
    assert peak < 200_000


def test_a_listed_job_reads_its_errors_when_they_are_asked_for(queue):
    fails = queue.task(name="fails")(lambda: 1 / 0)
    job, other = fails.enqueue(), queue.task(name="add")(lambda: 5).enqueue()
    queue.worker(threads=1).run(until_idle=True)
    [listed] = queue.jobs(status="failed")
    assert (listed.id, [error.type for error in listed.errors]) == (job.id, ["ZeroDivisionError"])
    [succeeded] = queue.jobs(status="succeeded")
    assert (succeeded.id, succeeded.result(0)) == (other.id, 5)


def test_the_errors_of_a_listed_job_that_was_pruned_are_not_found(queue, clock):
    queue.task(name="fails")(lambda: 1 / 0).enqueue()
    queue.worker(threads=1).run(until_idle=True)
    [listed] = queue.jobs()
    clock.advance("31d")
    assert listed.status == "failed"
    with pytest.raises(JobNotFound):
        _ = listed.errors


def test_a_listing_does_not_wait_for_others(store):
    put(store)
    begun, over = threading.Barrier(kernels.LISTINGS), threading.Event()

    def look(_db):
        begun.wait(60)
        over.wait(60)

    threads = []
    for connection in store.kernel.listings[1:]:
        threads.append(threading.Thread(target=connection.read, args=(look,)))
        threads[-1].start()
    begun.wait(60)
    assert (len(store.jobs.list()), sum(each.jobs for each in store.jobs.counts())) == (1, 1)
    assert not over.is_set()
    over.set()
    for thread in threads:
        thread.join()
    store.close()
    assert [each.connection for each in store.kernel.listings] == [None] * kernels.LISTINGS


def test_before_a_fork_every_connection_that_lists_is_closed(store):
    for each in store.kernel.listings:
        each.read(lambda db: db.rows("SELECT 1"))
    stopped = store.kernel.before_fork()
    try:
        assert all(stopped)
        assert [each.connection for each in store.kernel.listings] == [None] * kernels.LISTINGS
    finally:
        store.kernel.after_fork_in_parent(stopped)
    assert store.jobs.list() == []
