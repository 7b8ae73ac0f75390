"""What runs log is kept with their jobs: of functions, coroutines, threads and children, whatever logging is set up."""

import asyncio
import contextvars
import logging
import logging.config
import subprocess
import sys
import threading

import pytest

from crash.watching import until
from litequeue import Queue, Snooze, current_job
from litequeue.errors import DecodeError, StoreError
from litequeue.serialization.encryption import EncryptedCodec, new_key
from litequeue.sqlite.store import SqliteStore

SHOP = logging.getLogger("litequeue's test of kept logs")


@pytest.fixture(autouse=True)
def shop_is_heard():
    SHOP.disabled = False  # as another test may leave it
    SHOP.setLevel(logging.INFO)
    yield
    SHOP.setLevel(logging.NOTSET)
    SHOP.filters.clear()
    SHOP.propagate, SHOP.disabled = True, False


@pytest.fixture
def chatty(database, driver):
    with Queue(database, driver=driver, job_logs="64KiB", durability="normal") as queue:
        yield queue


def work(queue):
    queue.worker(threads=2, coroutines=2).run(until_idle=True)


def said(job, attempt=None):
    """The texts of the lines, without their times and names."""
    return [line.split(": ", 1)[-1] for line in job.logs(attempt).splitlines()]


def test_what_a_function_logs_is_kept(chatty):
    @chatty.task
    def pack(boxes):
        SHOP.info("packing %d boxes", boxes)
        SHOP.debug("not said")
        SHOP.warning("done")

    job = pack.enqueue(3)
    assert job.logs() == ""
    work(chatty)
    assert said(job) == ["packing 3 boxes", "done"]
    assert asyncio.run(job.alogs()) == job.logs()


def test_each_run_has_its_own_lines_beside_others(chatty):
    both = threading.Barrier(2)

    @chatty.task
    def one(n):
        both.wait(20)
        for _ in range(50):
            SHOP.info("of %d", n)
        both.wait(20)

    jobs = [one.enqueue(n) for n in (1, 2)]
    work(chatty)
    assert [set(said(job)) for job in jobs] == [{"of 1"}, {"of 2"}]


def test_coroutines_and_what_carries_their_context(chatty):
    @chatty.task
    async def fetch():
        SHOP.info("in the coroutine")
        await asyncio.gather(asyncio.to_thread(SHOP.info, "in a thread"), inner())

    async def inner():
        SHOP.info("in a task")

    job = fetch.enqueue()
    work(chatty)
    assert sorted(said(job)) == ["in a task", "in a thread", "in the coroutine"]


def test_a_thread_with_the_context_of_the_run_and_one_without(chatty):
    @chatty.task
    def start():
        context = contextvars.copy_context()
        for target in (lambda: context.run(SHOP.info, "with"), lambda: SHOP.info("without")):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()

    job = start.enqueue()
    work(chatty)
    if not getattr(sys.flags, "thread_inherit_context", 0):
        assert said(job) == ["with"]


def test_every_end_but_a_success_is_a_line(chatty):
    @chatty.task(retries=1, backoff=0)
    def fails():
        SHOP.info("try %d", current_job().tries)
        raise ValueError("torn")

    @chatty.task
    def snoozes():
        if current_job().attempt == 1:
            raise Snooze(0)

    @chatty.task(timeout=0.1)
    async def slow():
        SHOP.info("slow")
        await asyncio.sleep(60)

    jobs = [fails.enqueue(), snoozes.enqueue(), slow.enqueue()]
    work(chatty)
    assert said(jobs[0], 1)[0] == "try 1"
    assert said(jobs[0], 1)[1].startswith("the run failed, and the job is tried again: ValueError: torn")
    assert said(jobs[0], 2) == ["try 2", "the run failed: ValueError: torn"]
    assert "-- run 2 --" in jobs[0].logs()
    assert said(jobs[1]) == ["the job asked to run again later"]
    assert said(jobs[2])[0] == "slow"
    assert said(jobs[2])[1].startswith("the run failed: litequeue.JobTimeout")


def test_a_cancelled_run_keeps_its_lines(chatty):
    begun = threading.Event()

    @chatty.task
    async def waits():
        SHOP.info("waiting")
        begun.set()
        await asyncio.sleep(60)

    job = waits.enqueue()
    with chatty.worker():
        assert begun.wait(20)
        job.cancel(wait=20)
    assert said(job) == ["waiting", "the job was cancelled"]


def test_completing_keeps_the_lines(chatty):
    @chatty.task
    def pay():
        SHOP.info("before")
        with current_job().completing():
            SHOP.info("inside")
        SHOP.info("after")

    job = pay.enqueue()
    work(chatty)
    assert said(job) == ["before", "inside", "after"]


def test_a_task_says_for_itself(open_queue):
    queue = open_queue(durability="normal")
    plain = queue.task(name="plain")(lambda: SHOP.warning("unheard"))
    loud = queue.task(name="loud", job_logs="1KiB")(lambda: SHOP.warning("heard"))
    jobs = plain.enqueue(), loud.enqueue()
    work(queue)
    assert [said(job) for job in jobs] == [[], ["heard"]]
    silent = Queue(queue.path.with_name("b.db"), driver=queue.engine.driver_name, job_logs="1KiB")
    with silent:
        assert silent.task(name="none", job_logs=False)(lambda: None).options.job_logs == 0


def test_the_filters_of_a_logger_and_its_level_count_and_its_propagation_does_not(chatty):
    @chatty.task
    def pack():
        SHOP.info("passes")
        SHOP.info("secret")

    SHOP.addFilter(lambda record: "secret" not in record.getMessage())
    SHOP.propagate = False
    job = pack.enqueue()
    work(chatty)
    assert said(job) == ["passes"]


def test_logging_that_is_set_up_while_it_runs_is_survived(chatty):
    @chatty.task
    def pack():
        SHOP.info("one")
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        SHOP.info("two")

    job = pack.enqueue()
    work(chatty)
    assert said(job) == ["one", "two"]


def test_a_handler_that_raises_takes_no_line_away(chatty):
    class Torn(logging.Handler):
        def emit(self, record):
            raise ZeroDivisionError

    @chatty.task
    def pack():
        SHOP.info("one")

    handler = Torn()
    SHOP.addHandler(handler)
    try:
        job = pack.enqueue()
        work(chatty)
    finally:
        SHOP.removeHandler(handler)
    assert said(job)[0] == "one"
    assert job.refresh().errors[-1].type == "ZeroDivisionError"


def test_logging_is_as_it_was_once_the_worker_has_ended(chatty):
    before = logging.Logger.callHandlers
    chatty.task(name="x")(lambda: None)
    with chatty.worker():
        assert logging.Logger.callHandlers is not before
        with chatty.worker():
            pass
        assert logging.Logger.callHandlers is not before
    assert logging.Logger.callHandlers is before


PROGRAM = """
import logging, sys
from litequeue import Queue
queue = Queue(sys.argv[1], job_logs="4KiB")
@queue.task
def pack():
    logging.getLogger("shop").warning("by the last resort")
    logging.basicConfig(level="INFO", format="set up: %(message)s")
    logging.getLogger("shop").info("packed")
job = pack.enqueue()
queue.worker(threads=1).run(until_idle=True)
print(job.logs())
"""


def test_basic_config_and_the_last_resort_do_what_they_do_without_a_worker(database):
    done = subprocess.run([sys.executable, "-c", PROGRAM, database], capture_output=True, text=True, check=True)
    assert [line.split(": ", 1)[1] for line in done.stdout.split("\n") if line] == ["by the last resort", "packed"]
    assert done.stderr.splitlines()[:2] == ["by the last resort", "set up: packed"]


def test_a_child_process_sends_its_lines(database, driver, tmp_path, monkeypatch):
    (tmp_path / "logged_shop.py").write_text(
        "import logging\nfrom litequeue import Queue\n"
        f"queue = Queue({str(database)!r}, driver={driver!r}, job_logs='4KiB')\n"
        "@queue.task(process=True)\ndef pack():\n    logging.getLogger('shop').warning('in the child')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import logged_shop

    try:
        job = logged_shop.pack.enqueue()
        logged_shop.queue.worker(threads=1, children=1).run(until_idle=True)
        assert said(job) == ["in the child"]
    finally:
        logged_shop.queue.close()
        del sys.modules["logged_shop"]


def test_a_followed_log_is_read_while_the_job_runs(chatty, soon):
    begun, go = threading.Event(), threading.Event()

    @chatty.task
    def pack():
        SHOP.info("first")
        begun.set()
        go.wait(30)
        SHOP.info("second")

    job = pack.enqueue()
    with chatty.worker():
        assert begun.wait(20)
        assert said(job) == []
        chatty.source.follow_logs(job.id)
        until(lambda: said(job) == ["first"])
        go.set()
        job.result(20)
    assert said(job) == ["first", "second"]


def test_a_file_that_cannot_be_written_just_now_keeps_no_job_waiting(chatty, soon, monkeypatch):
    begun, go, tries = threading.Event(), threading.Event(), []
    keep = chatty.engine.run_logs.keep

    def keeping(logs):
        tries.append(len(logs))
        if len(tries) < 3:
            raise StoreError("the disk is full")
        keep(logs)

    @chatty.task
    def pack():
        SHOP.info("first")
        begun.set()
        go.wait(30)

    monkeypatch.setattr(chatty.engine.run_logs, "keep", keeping)
    job = pack.enqueue()
    with chatty.worker():
        assert begun.wait(20)
        chatty.source.follow_logs(job.id)
        until(lambda: said(job) == ["first"])
        go.set()
        job.result(20)
    assert tries == [1, 1, 1]


def test_encrypted_logs_need_the_key(database, driver):
    pytest.importorskip("cryptography")
    with Queue(database, driver=driver, job_logs="4KiB", codec=EncryptedCodec(new_key())) as queue:

        @queue.task
        def pack():
            SHOP.info("top secret")

        job = pack.enqueue()
        work(queue)
        assert said(job) == ["top secret"]
    assert b"top secret" not in database.read_bytes()
    given = {"result_ttl": 1.0, "failed_ttl": 1.0, "create": False, "driver": driver, "durability": "normal"}
    store = SqliteStore.open(database, clock=queue.clock, **given)
    with pytest.raises(DecodeError, match="name the app instead of the file"):
        store.jobs.logs(job.id)
    store.close()
    with (
        Queue(database, driver=driver, codec=EncryptedCodec(new_key())) as other,
        pytest.raises(DecodeError, match="another key"),
    ):
        other.job(job.id).logs()


@pytest.mark.parametrize("wrong", [0, -1, True, "1"])
def test_a_wrong_attempt_is_refused(chatty, wrong):
    job = chatty.task(name="x")(lambda: None).enqueue()
    with pytest.raises(ValueError, match="attempt must be the number of a run"):
        job.logs(wrong)
