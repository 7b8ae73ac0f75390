"""A job under which workers have died is quarantined: it runs alone, and harms no other."""

import threading

import pytest

from crash.watching import ended, status_of, until
from litequeue import Queue, StoreError, current_job
from litequeue.worker import maintenance

QUARANTINED = "it is quarantined: it runs alone"


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


def test_a_suspect_is_not_forgotten_when_an_older_run_of_it_ends_here(queue, soon, caplog):
    begun, gates = [], [threading.Event() for _ in range(4)]

    @queue.task
    def slow():
        attempt = current_job().attempt
        begun.append(attempt)
        assert gates[attempt].wait(20)

    def declared_dead():
        queue.engine.runs.rescue(working.id, None, blame=True)
        queue.task(name="other")(lambda: None).enqueue()  # so that the worker hears of it

    with queue.worker(threads=4) as working:
        job = slow.enqueue()
        until(lambda: begun == [1])
        declared_dead()
        until(lambda: begun == [1, 2])
        gates[1].set()
        until(lambda: working.lost == 1)
        declared_dead()
        until(lambda: QUARANTINED in caplog.text)  # it waits for the run before it to end here
        for gate in gates:
            gate.set()
        record = ended(job)
    assert (begun, record.status, record.attempt) == ([1, 2, 3], "succeeded", 3)


def test_many_suspects_are_run_one_by_one_and_the_innocent_among_them_are_claimed_once(queue, soon):
    attempts = []
    work = queue.task(name="work")(lambda: attempts.append(current_job().attempt))
    with queue.transaction() as db:
        quarantine = work.enqueue_many([()] * 20)
        db.execute("UPDATE litequeue_jobs SET deaths = 2")
        innocent = work.enqueue_many([()] * 50)
    with queue.worker(threads=4):
        assert {str(ended(job).status) for job in quarantine + innocent} == {"succeeded"}
    assert sum(job.refresh().attempt for job in quarantine) <= 3 * len(quarantine)
    assert {job.refresh().attempt for job in innocent} == {1}


def test_a_suspect_does_not_stop_the_others_beside_an_endless_run(queue, soon, monkeypatch):
    monkeypatch.setattr("litequeue.worker.quarantine.PATIENCE", 0.2)
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def endless():
        begun.set()
        go.wait(20)

    @queue.task
    def work(): ...

    with queue.worker(threads=2, coroutines=1):
        endless.enqueue()
        assert begun.wait(20)
        with queue.transaction() as db:
            suspect = work.using(priority=9).enqueue()
            db.execute("UPDATE litequeue_jobs SET deaths = 2 WHERE id = ?", (int(suspect.id),))
        others = work.enqueue_many([()] * 20)
        assert {str(ended(job).status) for job in others} == {"succeeded"}
        assert status_of(suspect) == "queued"
        go.set()
        assert ended(suspect).status == "succeeded"


def test_a_worker_that_is_stopped_while_a_suspect_waits_releases_it(queue, soon, monkeypatch, caplog):
    monkeypatch.setattr(maintenance, "BEAT_EVERY", 0.0)
    monkeypatch.setattr("litequeue.worker.reconcile.EVERY", 0.0)
    begun, looks, claims_of = threading.Event(), [], queue.engine.runs.claims_of

    @queue.task
    def long():
        begun.set()
        while not current_job().cancelled:
            threading.Event().wait(0.01)

    @queue.task
    def work(): ...

    def failing(_number):
        raise StoreError("no")  # after which a worker looks for claims that it knows nothing of

    def looking(number):
        looks.append(number)
        return claims_of(number)

    with queue.worker(threads=2, grace="20ms"):
        long.enqueue()
        assert begun.wait(20)
        with queue.transaction() as db:
            suspect = work.enqueue()
            db.execute("UPDATE litequeue_jobs SET deaths = 2 WHERE id = ?", (int(suspect.id),))
        until(lambda: QUARANTINED in caplog.text)
        monkeypatch.setattr(queue.engine.runs, "claims_of", looking)
        monkeypatch.setattr(queue.engine.workers, "beat", failing)
        until(lambda: len(looks) > 3)  # what nobody knows at two looks is released before the third
        assert status_of(suspect) == "running"
        monkeypatch.undo()
    assert status_of(suspect) == "queued"
