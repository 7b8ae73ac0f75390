"""A job is stored as a resting worker's own, if that one has nothing to do, and nothing else is there to be done."""

import asyncio
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from contract.jobs import START, SUCCEEDED, Hands, new, put, states, status
from crash.watching import until
from litequeue.errors import SchemaTooNew
from litequeue.ipc import dispatch as handover
from litequeue.ipc.dispatch import HANDED, IdleWorker, Serves, handed
from litequeue.ipc.notifier import HAND, WORK, Listener
from litequeue.job import Claimed
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import transitions


class Resting:
    """A worker on record that rests, and keeps what it is given."""

    def __init__(self, store, *tasks, queues=None):
        self.hands = Hands(store, *tasks, queues=queues)
        self.listener = Listener(store.directory, HAND)
        self.given = []
        self.rest()

    @property
    def number(self):
        return self.hands.number

    def rest(self, span=9.0):
        serves = Serves(frozenset(self.hands.tasks), self.hands.queues)
        self.hands.store.offer(IdleWorker(self.number, serves, self.accept), self.listener.name, span)

    def accept(self, job):
        self.given.append(job)
        return True

    def heard(self):
        """What other processes have sent."""
        found = [handed(message) for message in self.listener.wait(0.01)]
        return [each for each in found if each is not None]


@pytest.fixture
def rest(store):
    made = []

    def resting(*tasks, **options):
        made.append(Resting(options.pop("store", store), *tasks, **options))
        return made[-1]

    yield resting
    for each in made:
        each.listener.close()


@pytest.fixture
def afar(open_store):
    """The store of another process, as far as a resting worker can tell."""
    return open_store()


def test_a_worker_at_rest_is_given_the_job_as_it_is_stored(store, rest, clock):
    worker = rest()
    job_id = put(store, payload=b"[1,2]", priority=3, timeout=9.0, retries=2)
    [job] = worker.given
    assert (job.id, job.attempt, job.payload) == (job_id, 1, b"[1,2]")
    assert (job.priority, job.timeout, job.retries, job.deaths) == (3, 9.0, 2, 0)
    record = store.look_up(job_id)
    assert (str(record.status), record.attempt, record.worker) == ("running", 1, str(worker.number))
    assert record.started_at == clock.now()
    assert store.claims_of(worker.number) == [job]


def test_it_ends_as_any_other(store, rest):
    worker = rest()
    job_id = put(store)
    [job] = worker.given
    assert worker.hands.settle((job, SUCCEEDED)) == []
    assert status(store, job_id) == "succeeded"


def test_whoever_enqueues_next_finds_nobody_at_rest_until_it_rests_again(store, rest):
    worker = rest()
    first, second = put(store), put(store)
    assert states(store, [first, second]) == ["running", "queued"]
    worker.hands.settle((worker.given[0], SUCCEEDED), (worker.hands.take(), SUCCEEDED))
    worker.rest()
    assert status(store, put(store)) == "running"


def test_one_that_has_a_job_is_given_none_whatever_it_says(store, rest):
    worker = rest()
    put(store)
    worker.rest()
    assert status(store, put(store)) == "queued"
    assert len(worker.given) == 1


def test_none_is_handed_over_while_others_are_ready(store, rest):
    worker = rest()
    first = put(store, task="of another worker")
    assert states(store, [first, put(store)]) == ["queued", "queued"]
    assert worker.given == []


def test_one_that_is_not_on_record_is_given_none(store, rest):
    worker = rest()
    store.rescue(worker.number, None, blame=False)
    assert status(store, put(store)) == "queued"
    assert worker.given == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"run_at": 1_700_000_060.0}, id="later"),
        pytest.param({"expires_at": 1_700_000_060.0}, id="expires"),
        pytest.param({"key": "k"}, id="key"),
        pytest.param({"payload": b'["' + b"x" * 40_000 + b'"]'}, id="large"),
        pytest.param({"task": "unknown"}, id="of no task of its"),
        pytest.param({"queue": "other"}, id="of a queue that it does not serve"),
    ],
)
def test_what_is_not_for_a_worker_at_rest_waits_as_ever(store, rest, fields):
    worker = rest(queues=("default", "email"))
    job_id = put(store, **fields)
    assert status(store, job_id) == ("scheduled" if "run_at" in fields else "queued")
    assert worker.given == []
    assert status(store, put(store)) == ("running" if "run_at" in fields else "queued")


def test_one_that_has_woken_up_is_given_none(store, rest):
    worker = rest()
    store.withdraw(worker.number)
    assert status(store, put(store)) == "queued"


def test_many_at_once_are_not_handed_over(store, rest):
    rest()
    submitted = store.submit([new(), new()])
    assert states(store, [each.id for each in submitted]) == ["queued", "queued"]


def test_what_is_enqueued_in_a_transaction_is_not_handed_over_before_its_commit(store, rest):
    worker = rest()
    with store.transaction():
        job_id = put(store)
    assert status(store, job_id) == "queued"
    assert worker.given == []


def test_a_coroutine_hands_over_as_well(store, rest):
    worker = rest()
    [submitted] = asyncio.run(store.asubmit([new()]))
    assert status(store, submitted.id) == "running"
    assert [job.id for job in worker.given] == [submitted.id]


# ---- from another process


def test_another_process_sees_who_rests_and_sends_the_job(store, rest, afar):
    worker = rest()
    job_id = put(afar, payload=b'["\xc3\xa9"]')
    assert worker.given == []
    [(number, job)] = worker.heard()
    assert (number, job.id, job.attempt, job.payload) == (worker.number, job_id, 1, b'["\xc3\xa9"]')
    assert store.claims_of(worker.number) == [job]


def test_of_two_processes_one_hands_over(store, rest, afar):
    worker = rest()
    ids = [put(afar), put(store)]
    assert states(store, ids) == ["running", "queued"]
    assert [job.id for _, job in worker.heard()] == ids[:1]


def test_another_process_asks_only_whoever_serves_the_task_and_the_queue(store, rest, afar):
    rest("other")
    rest("add", queues=("email",))
    worker = rest("add", queues=("default",))
    job_id = put(afar)
    assert [job.id for _, job in worker.heard()] == [job_id]


def test_an_offer_that_has_run_out_is_passed_over(store, rest, afar):
    worker = rest()
    worker.rest(span=-1.0)
    assert status(afar, put(afar)) == "queued"


def test_a_worker_that_is_deaf_is_given_nothing(store, rest, afar):
    worker = rest()
    worker.listener.close()
    assert status(afar, put(afar)) == "queued"


def test_what_could_not_be_sent_is_put_back_as_if_it_had_never_been_claimed(store, rest, afar):
    worker = rest()
    with closing(Listener(store.directory, WORK)) as notifier:
        assert afar._notifier.reaches(worker.listener.name)
        worker.listener._place.close()  # its process is gone, and nobody has noticed
        job_id = put(afar)
        assert until(lambda: [message for message in notifier.wait(0.01) if message == b"jobs"])
    record = afar.look_up(job_id)
    assert (str(record.status), record.worker, record.started_at) == ("queued", None, None)
    [job] = Hands(store).claim()
    assert (job.id, job.attempt, job.deaths) == (job_id, 2, 0)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_whoever_waits_for_what_could_not_be_sent_is_told_of_its_end(store, rest, monkeypatch, way):
    """Its cancel was asked for meanwhile, so it ends instead of going back."""
    told, settle = [], transitions.settle

    def settle_as_cancelled(db, ended):
        for end in ended:
            perform(db, transitions.cancel(end.job.id, START, None))
        return settle(db, ended)

    worker = rest()
    worker.accept = lambda _job: False
    worker.rest()
    monkeypatch.setattr(transitions, "settle", settle_as_cancelled)
    monkeypatch.setattr(store, "_tell_ended", lambda ids: told.append(str(status(store, ids[0]))))
    if way == "sync":
        put(store)
    else:
        asyncio.run(store.asubmit([new()]))
    assert told == ["cancelled"]


def test_a_file_of_a_newer_release_is_refused(store, rest):
    worker = rest()
    with store.transaction() as db:
        db.execute("UPDATE litequeue_meta SET value = '999' WHERE name = 'schema_version'")
        db.execute("CREATE TABLE litequeue_new (x)")
    with pytest.raises(SchemaTooNew):
        put(store)
    assert worker.given == []
    assert store.claims_of(worker.number) == []


# ---- the memory that they share


@pytest.fixture
def board(store):
    store._dispatch._memory()
    return store.directory / handover.NAME


def test_whatever_stands_in_it_no_job_is_lost(store, afar, board):
    Hands(store)
    board.write_bytes(b"\xff" * len(handover.NOBODY))
    assert status(afar, put(afar)) == "queued"
    board.write_bytes(handover.SLOT.pack(1, 1e300, b"../../etc/passwd") * handover.SLOTS)
    assert status(afar, put(afar)) == "queued"


def test_a_slot_from_before_a_reboot_is_passed_over(store, rest, afar):
    worker = rest()
    worker.rest(span=3600.0)
    assert status(afar, put(afar)) == "queued"


def test_a_worker_that_is_off_the_record_is_struck_out(store, rest, afar, board):
    worker = rest()
    store.rescue(worker.number, None, blame=False)
    assert afar._dispatch.strangers() == [worker.number]
    put(afar)
    assert afar._dispatch.strangers() == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_store_that_is_closed_lets_go_of_it(store, board):
    def held():
        return [link for link in Path("/proc/self/fd").iterdir() if handover.NAME in os.path.realpath(link)]

    assert len(held()) == 1
    store.close()
    assert held() == []


def test_a_store_that_is_closed_at_any_moment_opens_it_anew(store, afar, monkeypatch):
    """Another thread closes it between any two steps of this one."""
    Hands(store)
    board = property(lambda held: None, lambda held, value: None)
    monkeypatch.setattr(handover.Dispatch, "_board", board, raising=False)
    assert status(afar, put(afar)) == "queued"


def test_where_there_is_none_a_worker_is_seen_in_its_own_process(store, rest, afar):
    store.directory.mkdir(exist_ok=True)
    (store.directory / handover.NAME).mkdir()
    worker = rest()
    assert status(afar, put(afar)) == "queued"
    worker.hands.settle((worker.hands.take(), SUCCEEDED))
    assert status(store, put(store)) == "running"


def test_workers_whose_numbers_share_a_place_do_not_strike_each_other_out(store, rest, afar):
    first = rest()
    for _ in range(handover.SLOTS - 1):
        Hands(store)
    second = rest()
    assert (second.number - first.number) % handover.SLOTS == 0
    store.withdraw(first.number)
    job_id = put(afar)
    assert [job.id for _, job in second.heard()] == [job_id]


@pytest.mark.parametrize("message", [b"", b"jobs", b"job ", b"job \xff", b"job \x92\x01\x02", b"cancel"])
def test_what_hands_nothing_over_is_no_job(message):
    assert handed(message) is None


@pytest.mark.parametrize("job_id", ["", "x", "1x", "1.5"])
def test_a_job_without_a_number_is_none(job_id):
    job = Claimed(job_id, 1, "add", "default", b"[]", 0, 0, 0, None, None, None, START)
    assert handed(HANDED + handover._encode((1, job))) is None
