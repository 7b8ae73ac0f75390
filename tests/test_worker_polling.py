"""What no notification tells a worker's loop, it finds by itself; and it sleeps where there is nothing to do."""

import threading
from collections import Counter

import pytest

from crash.watching import ended, until
from litequeue import Queue
from litequeue.worker.executor.shared_listener import SharedListener


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.mark.parametrize("busy", [False, True])
def test_a_job_that_was_written_by_this_process_and_never_notified_is_run(queue, soon, monkeypatch, busy):
    """A caller that is interrupted between the commit and the notification never notifies."""
    add, over = queue.task(name="add")(lambda: None), threading.Event()

    def write():
        while busy and not over.is_set():
            with queue.transaction():
                over.wait(0.005)

    with queue.worker():
        ended(add.enqueue())
        writing = threading.Thread(target=write)
        writing.start()
        monkeypatch.setattr(queue.engine.kernel.notifier, "notify", lambda message=b"": None)
        record = ended(add.enqueue())
        over.set()
        writing.join()
    assert record.status == "succeeded"


def test_the_loop_sleeps_when_something_is_due_and_there_is_no_room(queue, monkeypatch):
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def slow():
        begun.set()
        go.wait(20)

    rounds, wait = Counter(), SharedListener.wait

    def counting(shared, timeout):
        rounds["of the loop"] += 1
        return wait(shared, timeout)

    with queue.worker(threads=1, coroutines=1):
        slow.enqueue()
        assert begun.wait(20)
        waiting = slow.using(delay=0.1).enqueue()
        monkeypatch.setattr(SharedListener, "wait", counting)
        until(lambda: queue.clock.now() > waiting.refresh().run_at.timestamp() + 0.5)
        go.set()
        assert ended(waiting).status == "succeeded"
    assert rounds["of the loop"] < 100
