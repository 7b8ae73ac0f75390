"""An engine that lacks nearly all that may be lacking, to prove the seam. Jobs are in a dict of this process."""

import asyncio
import itertools
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from litequeue.core.duration import utc
from litequeue.core.engine import Feature, Missing, QueueCount, Submitted, unsupported
from litequeue.core.outcome import Cancelled, Failed, Released, Retried, Snoozed, Succeeded
from litequeue.core.records import Claimed, JobError, JobRecord, Status
from litequeue.core.why import plain_text, wait_timed_out
from litequeue.errors import JobNotFound, Unsupported
from litequeue.worker.executor.host import NoRecords, arun_one, run_one

LONGEST_DELAY = 86_400.0


class PoorEngine:
    """No transactions, keys, listing, schedules, long delays or workers inside the program; ids are words."""

    features = frozenset({Feature.ATOMIC_BATCH})

    def __init__(self, name="poor"):
        self.name = name
        self.home = None
        self.declared = []
        self.jobs = Jobs(self)
        self.schedules = Missing(name, Feature.SCHEDULES)
        self.rules = Missing(name, Feature.LIMITS)
        self.compositions = Missing(name, Feature.COMPOSITION)
        self.transactions = Missing(name, Feature.TRANSACTION, "this engine is in memory; enqueue after your commit")

    def attach(self, home):
        if self.home is not None:
            raise ValueError("this engine has a queue already; make another engine for another queue")
        self.home = home

    def declare(self, task):
        self.declared.append(task.name)

    def runner(self, options):
        return Runner(self, options)

    def close(self):
        """Nothing is open."""


class Jobs:
    """Records by id, behind one lock; whoever waits is woken at each change."""

    def __init__(self, engine):
        self.engine = engine
        self.changed = threading.Condition()
        self.records = {}
        self.calls = {}  # what of a call is not in its record: (timeout, number)
        self.kept_until = {}
        self.numbers = itertools.count()
        self.served = {}  # queue -> the number of its last claim

    @property
    def home(self):
        return self.engine.home

    # ---- enqueue

    def submit(self, jobs, within=None):
        for job in jobs:
            if (job.run_at or job.created_at) - job.created_at > LONGEST_DELAY:
                raise unsupported(self.engine.name, Feature.LONG_DELAY, "at most a day")
        with self.changed:
            self.changed.notify_all()
            return [Submitted(self.store(job), fresh=True) for job in jobs]

    async def asubmit(self, jobs, within=None):
        return self.submit(jobs, within)

    def store(self, new):
        job_id = f"{new.task}~{uuid.uuid4().hex[:12]}"
        later = new.run_at is not None and new.run_at > new.created_at
        self.calls[job_id] = new.timeout, next(self.numbers)
        self.records[job_id] = JobRecord(
            **{field: getattr(new, field) for field in ("task", "queue", "payload", "priority", "created_at")},
            **{field: getattr(new, field) for field in ("expires_at", "key", "tags", "schedule", "retries")},
            id=job_id,
            status=Status.SCHEDULED if later else Status.QUEUED,
            run_at=new.run_at or new.created_at,
            **dict.fromkeys(("attempt", "failures", "deaths"), 0),
            **dict.fromkeys(("started_at", "finished_at", "worker", "progress", "result")),
            cancel_requested=False,
            errors=(),
        )
        return job_id

    # ---- look and control

    def look_up(self, job_id):
        with self.changed:
            self.prune()
            self.promote()
            if job_id not in self.records:
                raise JobNotFound(f"no job {job_id} in memory: it never existed, or it has been pruned")
            return self.records[job_id]

    async def alook_up(self, job_id):
        return self.look_up(job_id)

    def look_up_many(self, job_ids, timeout=None):
        with self.changed:
            self.prune()
            self.promote()
            return {job_id: self.records[job_id] for job_id in job_ids if job_id in self.records}

    async def alook_up_many(self, job_ids, timeout=None):
        return self.look_up_many(job_ids)

    list = alist = Missing("poor", Feature.LISTING)._refuse
    logs = alogs = Missing("poor", Feature.JOB_LOGS)._refuse

    def counts(self):
        with self.changed:
            return [QueueCount(job.queue, job.status, 1, job.created_at) for job in self.records.values()]

    def cancel(self, job_id):
        with self.changed:
            job = self.look_up(job_id)
            if job.status.finished:
                return False
            if job.status is Status.RUNNING:
                self.change(job, cancel_requested=True)
            else:
                self.end(job, Status.CANCELLED)
            return True

    async def acancel(self, job_id):
        return self.cancel(job_id)

    def why(self, job_id):
        return plain_text(self.look_up(job_id), self.home.now())

    async def awhy(self, job_id):
        return self.why(job_id)

    def position(self, job_id):
        raise unsupported(self.engine.name, Feature.POSITION)

    async def aposition(self, job_id):
        return self.position(job_id)

    def check_streams(self):
        raise unsupported(self.engine.name, Feature.STREAMS)

    def retry(self, job_id):
        with self.changed:
            job = self.look_up(job_id)
            if job.status in (Status.QUEUED, Status.RUNNING, Status.SUCCEEDED):
                raise Unsupported(f"job {job_id} is {job.status}; it cannot be retried")
            self.kept_until.pop(job_id, None)
            fresh = {"failures": 0, "finished_at": None, "expires_at": None, "cancel_requested": False}
            self.change(job, status=Status.QUEUED, run_at=self.home.now(), **fresh)

    async def aretry(self, job_id):
        self.retry(job_id)

    def watch(self, job_ids, tell):
        over = threading.Event()

        def look():
            left, first = list(job_ids), True
            while left and not over.wait(0 if first else 0.01):
                found = self.look_up_many(left)
                ended = [job_id for job_id in left if job_id not in found or found[job_id].status.finished]
                left = [job_id for job_id in left if job_id not in ended]
                if ended:
                    tell(ended)
                if first:
                    tell(())
                first = False

        threading.Thread(target=look, daemon=True).start()
        return over.set

    def check_may_wait(self, *, blocking=False):
        """There are no transactions."""

    def wait(self, job_id, timeout):
        until = None if timeout is None else time.monotonic() + timeout
        with self.changed:
            while not (job := self.look_up(job_id)).status.finished:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise wait_timed_out(job, timeout)
                self.changed.wait(0.2 if left is None else min(left, 0.2))
            return job

    async def await_end(self, job_id, timeout):
        until = None if timeout is None else time.monotonic() + timeout
        while not (job := self.look_up(job_id)).status.finished:
            if until is not None and time.monotonic() >= until:
                raise wait_timed_out(job, timeout)
            await asyncio.sleep(0.01)
        return job

    # ---- what the runner does

    def claim(self, tasks, queues):
        """Hand out the job that is next, or None."""
        with self.changed:
            self.promote()
            ready = [job for job in self.records.values() if job.status is Status.QUEUED and job.task in tasks]
            ready = [job for job in ready if queues is None or job.queue in queues]
            if not ready:
                return None
            queue = min({job.queue for job in ready}, key=lambda queue: self.served.get(queue, -1))  # in turn
            self.served[queue] = next(self.numbers)
            ready = [job for job in ready if job.queue == queue]
            job = min(ready, key=lambda job: (-job.priority, job.run_at, self.calls[job.id][1]))
            job = self.change(job, status=Status.RUNNING, attempt=job.attempt + 1, started_at=self.home.now())
            timeout, _ = self.calls[job.id]
            same = {field: getattr(job, field) for field in Claimed.__struct_fields__ if hasattr(job, field)}
            return Claimed(**same, timeout=timeout)

    def settle(self, ended):
        with self.changed:
            job, outcome = self.records[ended.job.id], ended.outcome
            match outcome:
                case Succeeded(result):
                    self.end(job, Status.SUCCEEDED, keep_for=ended.keep_for, result=result)
                case Failed(error) | Retried(_, error):
                    at = utc(ended.at)
                    errors = (*job.errors, JobError(job.attempt, at, error.type, error.message, error.traceback))
                    job = self.change(job, errors=errors, failures=job.failures + 1)
            match outcome:
                case Failed():
                    self.end(job, Status.FAILED, keep_for=ended.keep_for)
                case Cancelled():
                    self.end(job, Status.CANCELLED, keep_for=ended.keep_for)
                case Retried() | Snoozed() | Released() if job.cancel_requested:
                    self.end(job, Status.CANCELLED, keep_for=ended.keep_for)
                case Retried(run_at) | Snoozed(run_at):
                    self.change(job, status=Status.SCHEDULED, run_at=run_at)
                case Released():
                    self.change(job, status=Status.QUEUED)

    def end(self, job, status, keep_for=None, **fields):
        keep_for = self.home.defaults.result_ttl if keep_for is None else keep_for
        self.kept_until[job.id] = self.home.now() + keep_for
        self.change(job, status=status, finished_at=self.home.now(), **fields)

    def change(self, job, **fields):
        self.changed.notify_all()
        self.records[job.id] = changed = replace(job, **fields)
        return changed

    def promote(self):
        """Queue what is due, and end what has expired."""
        now = self.home.now()
        for job in list(self.records.values()):
            if job.status in (Status.SCHEDULED, Status.QUEUED) and not job.attempt and (job.expires_at or now) < now:
                self.end(job, Status.EXPIRED)
            elif job.status is Status.SCHEDULED and job.run_at <= now:
                self.change(job, status=Status.QUEUED)

    def prune(self):
        now = self.home.now()
        for job_id in [job_id for job_id, until in self.kept_until.items() if until <= now]:
            del self.records[job_id], self.kept_until[job_id]


class Runner:
    """Threads that claim and run one job after the other."""

    lost = released = 0

    def __init__(self, engine, options):
        self.jobs, self.engine, self.options = engine.jobs, engine, options
        self.name = options.name or "poor-worker"
        self.claimed = self.settled = 0
        self.stopping = threading.Event()

    def run(self, *, until_idle=False):
        with ThreadPoolExecutor(self.options.threads) as pool:
            for done in [pool.submit(self.work, until_idle) for _ in range(self.options.threads)]:
                done.result()
        return True

    def stop(self):
        self.stopping.set()
        with self.jobs.changed:
            self.jobs.changed.notify_all()

    def work(self, until_idle):
        while not self.stopping.is_set():
            job = self.jobs.claim(self.engine.home.tasks, self.options.queues)
            if job is not None:
                self.claimed += 1
                self.jobs.settle(self.execute(job))
                self.settled += 1
            elif until_idle:
                return
            else:
                with self.jobs.changed:
                    self.jobs.changed.wait(0.01)

    def execute(self, job):
        home, recorder = self.engine.home, NoRecords(self.engine.name)

        def cancelled():
            return self.jobs.look_up(job.id).cancel_requested

        if home.tasks[job.task].is_coroutine:
            return asyncio.run(arun_one(home, job, recorder, cancelled))
        return run_one(home, job, recorder, cancelled)
