"""Why a job does not run: the first thing that keeps a claim from taking it, in one sentence."""

import asyncio

import pytest

from contract.jobs import FAILED, START, SUCCEEDED, Hands, put, retried
from contract.test_store_limits_operating import declare, put_keyed, uses
from litequeue.core.source import MOST_BEFORE
from litequeue.errors import JobNotFound
from litequeue.sqlite.jobs import why
from test_query_plans import fill, steps_of


def told(store, job_id, *, alive=True):
    """What is told where the workers on record live, or do not."""
    return store.kernel.read(lambda db: why.why(db, job_id, store.clock, lambda _token: alive))


@pytest.fixture
def hands(store):
    return Hands(store, "ask")


def test_no_worker_is_running(store, hands):
    job = put(store, "ask")
    assert told(store, job, alive=False) == "no worker is running; start one: `litequeue run` or queue.worker()"
    assert store.jobs.why(job) == asyncio.run(store.jobs.awhy(job)) == told(store, job, alive=False)


def test_no_worker_has_its_task_or_serves_its_queue(store):
    Hands(store, "ask", queues=("email",))
    assert told(store, put(store, "unknown")).startswith("no running worker has its task")
    assert told(store, put(store, "ask")).startswith("no running worker that has its task serves its queue")


@pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", "ask")])
def test_it_is_paused(store, hands, clock, kind, name):
    store.rules.pause(kind, name)
    clock.advance("2h")
    said = told(store, put(store, "ask"))
    assert (
        said
        == f"its {kind} {name!r} is paused, since 2023-11-14 22:13:20+00:00 (2h ago); `litequeue resume` lets it go on"
    )


def test_a_limit_is_full(store, hands):
    declare(store, "ask", uses("openai", 4, takes=2))
    jobs = [put(store, "ask") for _ in range(3)]
    hands.claim(3)
    assert told(store, jobs[2]) == "limit 'openai' is full: 4 of 4 taken, and it takes 2"


def test_its_key_is_full_and_others_are_not(store):
    limit = uses("mail", 1, per="{user}")
    declare(store, "mail", limit)
    hands = Hands(store, "mail")
    jobs = [put_keyed(store, limit, user) for user in ("a", "a", "b")]
    assert [job.id for job in hands.claim(1)] == jobs[:1]
    assert told(store, jobs[1]) == "limit 'mail' is full for key 'a': 1 of 1 taken"
    assert told(store, jobs[2]) == "1 job of its queue comes first"
    assert [job.id for job in hands.claim(1)] == jobs[2:]
    assert told(store, jobs[1]) == "limit 'mail' is full for key 'a': 1 of 1 taken"  # parked by now


def test_another_job_of_its_key_keeps_the_order(store):
    limit = uses("mail", 1, per="{user}")
    declare(store, "mail", limit, ordered=True)
    hands = Hands(store, "mail")
    jobs = [put_keyed(store, limit, "a") for _ in range(2)]
    hands.settle((hands.take(), retried()))
    hands.claim()
    assert (
        told(store, jobs[1])
        == f"jobs of limit 'mail' keep their order for key 'a': job {jobs[0]} has begun and not ended"
    )


def test_a_rate_lets_no_more_start_yet(store, hands):
    declare(store, "ask", uses("openai", None, "1/m"))
    jobs = [put(store, "ask") for _ in range(2)]
    hands.settle((hands.take(), SUCCEEDED))
    assert told(store, jobs[1]) == (
        "limit 'openai' lets no more start until 2023-11-14 22:14:20+00:00 (in 1m): its rate is 1/m"
    )


def test_it_takes_more_than_a_limit_ever_has(store, hands):
    declare(store, "ask", uses("openai", 2, takes=3))
    assert told(store, put(store, "ask")) == "it takes 3 of limit 'openai', which never has more than 2; raise that"


def test_what_it_takes_is_not_known_yet(store, hands):
    declare(store, "ask", uses("openai", 2, per="{user}"))
    assert told(store, put(store, "ask")).startswith("a worker that has its task must first work out what it takes")


def test_others_of_its_queue_come_first(store, hands):
    jobs = [put(store, "ask", priority=priority) for priority in (0, 0, 5)]
    put(store, "ask", queue="other", priority=9)
    assert told(store, jobs[2]) == "it is the next of its queue, and starts when a worker has a slot free"
    assert told(store, jobs[1]) == "2 jobs of its queue come first"


def test_it_is_quarantined(store, hands):
    job = put(store, "ask")
    store.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_jobs SET deaths = 2"))
    assert (
        told(store, job) == "it runs alone, once nothing else runs in a worker: 2 times a worker has died while it ran"
    )


def test_it_is_due_later(store, hands, clock):
    job = put(store, "ask", run_at=START + 240)
    assert told(store, job) == "it is due at 2023-11-14 22:17:20+00:00 (in 4m)"
    clock.advance("5m")
    assert told(store, job).startswith("it is the next of its queue")


def test_it_has_failed_and_is_tried_again(store, hands):
    put(store, "ask")
    job = hands.take()
    hands.settle((job, retried()))
    assert told(store, job.id) == "it is due at 2023-11-14 22:14:20+00:00 (in 1m), for its try 2: ValueError: boom"


def test_it_runs(store, hands, clock):
    job = put(store, "ask")
    hands.take()
    clock.advance("3m")
    assert told(store, job) == "it runs since 2023-11-14 22:13:20+00:00 (3m ago), by worker 1 (pid 1 on here)"
    assert "a worker that is dead or stands still" in told(store, job, alive=False)
    store.jobs.cancel(job)
    assert told(store, job).endswith(", and was asked to end")


def test_it_has_ended(store, hands, clock):
    jobs = [put(store, "ask") for _ in range(3)]
    one, other = hands.claim(2)
    hands.settle((one, SUCCEEDED), (other, FAILED))
    store.jobs.cancel(jobs[2])
    at = "2023-11-14 22:13:20+00:00 (0s ago)"
    assert [told(store, job) for job in jobs] == [
        f"it succeeded at {at}", f"it failed at {at}: ValueError: boom", f"it was cancelled at {at}",
    ]  # fmt: skip


def test_it_was_never_there(store):
    with pytest.raises(JobNotFound):
        store.jobs.why("1")


def test_it_is_told_as_cheaply_of_a_large_file(open_store, tmp_path):
    costs = []
    for count in (11_000, 22_000):
        store = open_store(path=tmp_path / f"{count}.db")
        Hands(store, "add")
        declare(store, "add", uses("openai", 2))
        fill(store, count)
        fill(store, count, state=4, finished=START, delete=START + 1000)
        job = put(store, "add")
        raw = store.kernel.read(lambda db: db.raw)
        costs.append(steps_of(store, lambda: told(store, job), raw))  # noqa: B023
        assert told(store, job) == f"{MOST_BEFORE:,} or more jobs of its queue come first"
    few, many = costs
    assert many <= few * 1.1
