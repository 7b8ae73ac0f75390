"""What the tests of the store submit, and a worker's side of it that claims and settles but runs nothing."""

import itertools

from litequeue.core.capacity import Capacity
from litequeue.core.outcome import Cancelled, Ended, ErrorInfo, Failed, Released, Retried, Settled, Snoozed, Succeeded
from litequeue.core.records import NewJob, Status
from litequeue.core.store import Demand, NewWorker

START = 1_700_000_000.0
LARGE = b"[%s]" % b",".join([b"7"] * 5_000)  # too large for the row of its job
BOOM = ErrorInfo("ValueError", "boom", "Traceback ...")

SUCCEEDED = Succeeded(b"5")
FAILED = Failed(BOOM)
CANCELLED = Cancelled()
RELEASED = Released()
SETTLED = Settled()


def retried(after=60.0):
    return Retried(START + after, BOOM)


def snoozed(after=60.0):
    return Snoozed(START + after)


def new(task="add", **fields):
    return NewJob(**{"task": task, "queue": "default", "payload": b"[]", "created_at": START} | fields)


def put(store, task="add", **fields):
    """Submit one job and return its id."""
    [submitted] = store.jobs.submit([new(task, **fields)])
    return submitted.id


def status(store, job_id) -> Status:
    return store.jobs.look_up(job_id).status


def states(store, ids):
    return [str(status(store, job_id)) for job_id in ids]


def to_the_end(store, verb, tasks):
    """Let a store's ticks do all steps of `fire` or `bring_near`; return when the next is due."""
    steps = getattr(store.ticks, verb)(tasks)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


_tokens = itertools.count()


class Hands:
    """A worker on record."""

    def __init__(self, store, *tasks, queues=None, slots=None, offers=None):
        self.store, self.queues = store, queues
        self.slots, self.offers = slots or {}, offers or {}
        self.present = []  # runs in its process, as (id, attempt, queue, task)
        self.tasks = tasks or ("add",)
        self.number = store.workers.register(
            NewWorker(
                token=f"token-{next(_tokens)}",
                identity='{"pid": 1, "host": "here"}',
                queues=queues,
                tasks=self.tasks,
                threads=1,
                coroutines=1,
                slots=self.slots,
                offers=self.offers,
            )
        )

    @property
    def capacity(self):
        return Capacity(self.slots, self.offers, self.present) if self.slots or self.offers else None

    def turn(self, limit=1, ended=()):
        demands = [Demand(frozenset(self.tasks), limit)]
        return self.store.runs.claim(self.number, demands, self.queues, list(ended), self.capacity)

    def claim(self, limit=1):
        return self.turn(limit).claimed

    def take(self):
        """Claim the one job that must be there."""
        [claimed] = self.claim()
        return claimed

    def end(self, job, outcome, keep_for=86_400.0):
        return Ended(job, outcome, self.store.clock.now(), keep_for)

    def settle(self, *pairs, keep_for=86_400.0):
        """Settle (job, outcome) pairs and return the jobs that were lost."""
        lost = self.store.runs.settle([self.end(job, outcome, keep_for) for job, outcome in pairs])
        return [end.job for end in lost]
