"""A job is claimed for an idle worker of this process in the transaction that stores it, by the rule of any claim."""

import asyncio

import pytest

from contract.jobs import RELEASED, START, SUCCEEDED, Hands, new, put, states, status
from contract.test_store_limits import declare, ids, parked
from litequeue.core.dispatch import IdleWorker
from litequeue.errors import SchemaTooNew
from litequeue.limits.limit import Allowed
from litequeue.limits.task_rules import LimitUse


class Resting:
    """A worker on record that is idle, and keeps what it is given."""

    def __init__(self, store, *tasks, queues=None):
        self.hands = Hands(store, *tasks, queues=queues)
        self.given, self.doubts = [], []
        self.rest()

    @property
    def number(self):
        return self.hands.number

    def rest(self):
        kinds = frozenset({frozenset(self.hands.tasks)})
        self.idle = IdleWorker(self.number, kinds, self.hands.queues, self.accept, lambda: self.doubts.append(None))
        self.hands.store.dispatch.offer(self.idle)

    def accept(self, number, jobs):
        assert number == self.number
        self.given += jobs

    def wake(self):
        self.hands.store.dispatch.withdraw(self.idle)


@pytest.fixture
def rest(store):
    return lambda *tasks, **options: Resting(store, *tasks, **options)


def test_an_idle_worker_is_given_the_job_as_it_is_stored(store, rest, clock):
    worker = rest()
    job_id = put(store, payload=b"[1,2]", priority=3, timeout=9.0, retries=2)
    [job] = worker.given
    assert (job.id, job.attempt, job.payload) == (job_id, 1, b"[1,2]")
    assert (job.priority, job.timeout, job.retries, job.deaths) == (3, 9.0, 2, 0)
    record = store.jobs.look_up(job_id)
    assert (str(record.status), record.attempt, record.worker) == ("running", 1, str(worker.number))
    assert record.started_at == clock.now()
    assert store.runs.claims_of(worker.number) == [job]


def test_it_ends_as_any_other(store, rest):
    worker = rest()
    job_id = put(store)
    [job] = worker.given
    assert worker.hands.settle((job, SUCCEEDED)) == []
    assert status(store, job_id) == "succeeded"


def test_the_next_job_finds_no_idle_worker_until_it_is_idle_again(store, rest):
    worker = rest()
    first, second = put(store), put(store)
    assert states(store, [first, second]) == ["running", "queued"]
    worker.hands.settle((worker.given[0], SUCCEEDED), (worker.hands.take(), SUCCEEDED))
    worker.rest()
    assert status(store, put(store)) == "running"


def test_a_job_that_does_not_say_what_it_takes_of_a_limit_is_left_to_the_claim_of_its_worker(store, rest):
    declare(store, {"add": Allowed(concurrency=1)}, add=[LimitUse("add", True, 1)])
    worker = rest("add")
    silent = put(store, "add")
    assert (worker.given, parked(store)) == ([], [])
    assert ids(worker.hands.turn(1).keyless) == [silent]


@pytest.mark.parametrize("fields", [{"task": "unknown"}, {"queue": "email"}, {"run_at": START + 60.0}])
def test_a_job_that_it_may_not_start_keeps_none_from_it(store, rest, fields):
    """The fast path is not switched off by what nobody serves, nor by what is scheduled."""
    put(store, **fields)
    worker = rest(queues=("default",))
    assert status(store, put(store)) == "running"
    assert len(worker.given) == 1


def test_an_older_job_that_is_ready_comes_first(store, rest):
    first = put(store)
    worker = rest()
    ids = [first, put(store)]
    assert states(store, ids) == ["running", "queued"]
    assert [job.id for job in worker.given] == [first]


def test_an_older_job_of_another_task_of_its_comes_first(store, rest):
    first = put(store, task="send")
    rest("add", "send")
    assert states(store, [first, put(store)]) == ["running", "queued"]


def test_a_job_of_a_higher_priority_comes_first(store, rest):
    first = put(store, priority=5)
    rest()
    assert states(store, [first, put(store, priority=4)]) == ["running", "queued"]


def test_a_scheduled_job_that_is_due_comes_first(store, rest, clock):
    first = put(store, run_at=clock.now() + 60.0)
    worker = rest()
    clock.advance(61)
    job_id = put(store, created_at=clock.now())
    assert states(store, [first, job_id]) == ["running", "queued"]
    assert [job.id for job in worker.given] == [first]


def test_what_it_releases_is_there_for_the_next(store, rest):
    worker = rest()
    job_id = put(store)
    worker.hands.settle((worker.given[0], RELEASED))
    assert status(store, job_id) == "queued"
    assert (worker.hands.take().attempt, store.jobs.look_up(job_id).errors) == (2, ())


def test_one_that_wakes_up_before_the_commit_is_given_none(store, rest, monkeypatch):
    worker, take = rest(), store.dispatch.take
    monkeypatch.setattr(store.dispatch, "take", lambda *call: [take(*call), worker.wake()][0])
    assert status(store, put(store)) == "queued"
    assert worker.given == []


def test_a_dispatch_that_fails_after_its_commit_has_the_worker_look(store, rest):
    worker = rest()
    worker.idle.accept = lambda _number, _jobs: 1 / 0
    with pytest.raises(ZeroDivisionError):
        put(store)
    assert len(worker.doubts) == 1
    assert len(store.runs.claims_of(worker.number)) == 1


def test_one_that_is_not_on_record_is_given_none(store, rest):
    worker = rest()
    store.runs.rescue(worker.number, None, blame=False)
    assert status(store, put(store)) == "queued"
    assert worker.given == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"run_at": 1_700_000_060.0}, id="later"),
        pytest.param({"expires_at": 1_700_000_060.0}, id="expires"),
        pytest.param({"key": "k"}, id="key"),
        pytest.param({"task": "unknown"}, id="of no task of its"),
        pytest.param({"queue": "other"}, id="of a queue that it does not serve"),
    ],
)
def test_what_is_not_for_an_idle_worker_waits_as_ever(store, rest, fields):
    worker = rest(queues=("default", "email"))
    job_id = put(store, **fields)
    assert status(store, job_id) == ("scheduled" if "run_at" in fields else "queued")
    assert worker.given == []
    worker.hands.settle(*((job, SUCCEEDED) for job in worker.hands.claim(9)))
    assert status(store, put(store)) == "running"


def test_one_that_has_woken_up_is_given_none(store, rest):
    worker = rest()
    worker.wake()
    assert status(store, put(store)) == "queued"


def test_many_at_once_are_not_dispatched(store, rest):
    rest()
    submitted = store.jobs.submit([new(), new()])
    assert states(store, [each.id for each in submitted]) == ["queued", "queued"]


def test_what_is_enqueued_in_a_transaction_is_not_dispatched_before_its_commit(store, rest):
    worker = rest()
    with store.transactions.transaction():
        job_id = put(store)
    assert status(store, job_id) == "queued"
    assert worker.given == []


def test_a_coroutine_dispatches_as_well(store, rest):
    worker = rest()
    [submitted] = asyncio.run(store.jobs.asubmit([new()]))
    assert status(store, submitted.id) == "running"
    assert [job.id for job in worker.given] == [submitted.id]


def test_a_file_of_a_newer_release_is_refused(store, rest):
    worker = rest()
    with store.transactions.transaction() as db:
        db.execute("UPDATE litequeue_meta SET value = '999' WHERE name = 'schema_version'")
        db.execute("CREATE TABLE litequeue_new (x)")
    with pytest.raises(SchemaTooNew):
        put(store)
    assert worker.given == []
    assert store.runs.claims_of(worker.number) == []
