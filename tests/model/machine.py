"""The public interface against the model: hypothesis picks calls, and shrinks those that show a broken promise.

For something new in the product add a rule here, and a method in `truth.py`. Several queues are open on the one file,
as several processes would have them, and each call goes through one of them.
"""

from __future__ import annotations

import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from litequeue import Queue, Snooze, current_job, every
from litequeue.core.records import NewJob, Status
from litequeue.errors import JobCancelled, JobExpired, JobFailed, LiteQueueError
from litequeue.scheduling.schedules import record_of
from litequeue.serialization.json_codec import digest
from litequeue.testing import ManualClock
from model import watch
from model.mirror import RolledBack
from model.row import CANCELLED, EXPIRED, RUNNING, STATES, SUCCEEDED, Row, is_over
from model.truth import Truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue import Job

RESULT_TTL, FAILED_TTL = 600.0, 3600.0
HOUR = 3600.0
TASKS = ("plain", "aplain", "fails", "flaky", "later", "single")
QUEUES = ("default", "email")
NAMES = ("hourly", "tick", "tock")

number = st.integers(0, 2)
which = st.integers(0, 1)
name_of_task = st.sampled_from(TASKS)
some = st.floats(0, 1, exclude_max=True)  # picks one of what there is
times = st.sampled_from(({}, {}, {"delay": 0}, {"delay": 30.0}, {"expires": 60.0}, {"delay": 30.0, "expires": "2h"}))
places = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.sampled_from((-5, 5)),
        "queue": st.sampled_from(QUEUES),
        "tags": st.sampled_from((["red"], ["red", "blue"])),
    },
)
keys = st.fixed_dictionaries(
    {"key": st.sampled_from(("k1", "k2"))},
    optional={
        "key_scope": st.sampled_from(("kept", "unfinished", "queued")),
        "on_conflict": st.sampled_from(("return", "raise", "replace")),
    },
)
options_of_call = st.builds(lambda *each: {k: v for d in each for k, v in d.items()}, times, places, st.just({}) | keys)
calls = st.tuples(name_of_task, number, options_of_call)


def declare(path: Path, driver: Literal["apsw", "sqlite3"], clock: ManualClock) -> Queue:
    """Open the file, with tasks whose ends are known."""
    queue = Queue(path, driver=driver, durability="normal", result_ttl=RESULT_TTL, failed_ttl=FAILED_TTL)
    queue.clock = queue.engine.clock = clock

    def plain(n: int) -> int:
        return n

    async def aplain(n: int) -> int:
        return n

    def fails(n: int) -> None:
        raise ValueError(n)

    def flaky(n: int) -> int:
        if current_job().job.failures < n:
            raise ValueError(n)
        return n

    def later(n: int) -> None:
        raise Snooze("1h")

    for function in (plain, aplain, fails, later):
        queue.task(name=function.__name__)(function)
    queue.task(name="flaky", retries=2, backoff=0)(flaky)
    queue.task(name="single", unique=True)(plain)
    queue.task(name="hourly", schedule=every("1h"))(lambda n=0: n)
    return queue


class Machine(RuleBasedStateMachine):
    """Calls of the public interface; after each, the file holds the truth."""

    driver: Literal["apsw", "sqlite3"] = "apsw"

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "app.db"
        self.clock = ManualClock()
        self.queues = [declare(self.path, self.driver, self.clock) for _ in range(2)]
        self.truth = Truth(RESULT_TTL, FAILED_TTL, 500)
        self.jobs: list[Job[Any]] = []
        watch.set_up(self.queues[0].engine)

    def teardown(self) -> None:
        if hasattr(self, "queues"):
            for queue in self.queues:
                queue.close()
            self.folder.cleanup()

    @invariant()
    def the_file_holds_the_truth(self) -> None:
        if hasattr(self, "queues"):
            watch.check_all(self.queues[0].engine, self.truth)

    @property
    def now(self) -> float:
        return self.clock.now()

    def same(self, act: Callable[[], Any], expect: Callable[[], Any]) -> Any:
        """What comes out is what must, value or error."""
        wanted, wrong = _outcome(expect)
        value, error = _outcome(act)
        assert type(error) is type(wrong), f"{error!r} is raised, must be {wrong!r}"
        assert error is not None or value == wanted, f"{value!r} is returned, must be {wanted!r}"
        return None if error else value

    def new(self, task: str, n: int, given: dict[str, Any]) -> NewJob:
        """The job that such a call must make."""
        payload = self.queues[0].tasks[task].s(n).template.payload
        call: dict[str, Any] = {"task": task, "queue": "default", "payload": payload, "created_at": self.now}
        call |= {
            name: given[name] for name in ("priority", "queue", "key", "key_scope", "on_conflict") if name in given
        }
        if "delay" in given:
            call["run_at"] = self.now + given["delay"]
        if "expires" in given:
            call["expires_at"] = self.now + (2 * HOUR if given["expires"] == "2h" else given["expires"])
        if task == "single" and "key" not in given:
            call |= {"key": digest(payload), "key_scope": "unfinished"}
        return NewJob(**call, tags=tuple(given.get("tags", ())))

    # ---- enqueue

    @rule(q=which, call=calls)
    def enqueue(self, q: int, call: tuple[str, int, dict[str, Any]]) -> None:
        self.enqueue_by(self.queues[q], *call)

    @rule(q=which, task=name_of_task, numbers=st.lists(number, max_size=4), given=options_of_call)
    def enqueue_many(self, q: int, task: str, numbers: list[int], given: dict[str, Any]) -> None:
        using = self.queues[q].tasks[task].using(**given)
        many = [(n,) for n in numbers]
        self.same(
            lambda: self.keep(using.enqueue_many(many)),
            lambda: self.submitted([self.new(task, n, given) for n in numbers]),
        )

    @rule(q=which, some_calls=st.lists(calls, max_size=3), commit=st.booleans(), own=st.booleans())
    def transaction(
        self, q: int, some_calls: list[tuple[str, int, dict[str, Any]]], *, commit: bool, own: bool
    ) -> None:
        """On the queue's connection or the caller's own, committed or not."""
        queue, saved, kept = self.queues[q], self.truth.saved(), list(self.jobs)
        scope = OwnTransaction(self.path, self.driver) if own else queue.transaction()
        with suppress(RolledBack), scope as db:
            for call in some_calls:
                self.enqueue_by(queue, *call, **({"within": db} if own else {}))
            if not commit:
                raise RolledBack
        if not commit:
            self.truth.restore(saved)
            self.jobs = kept

    def enqueue_by(self, queue: Queue, task: str, n: int, given: dict[str, Any], **within: Any) -> None:
        using = queue.tasks[task].using(**given, **within)
        self.same(lambda: self.keep([using.enqueue(n)]), lambda: self.submitted([self.new(task, n, given)]))

    def keep(self, jobs: list[Job[Any]]) -> list[str]:
        self.jobs += jobs
        return [job.id for job in jobs]

    def submitted(self, jobs: list[NewJob]) -> list[str]:
        return [each.id for each in self.truth.submit(jobs)]

    # ---- one job

    def pick(self, place: float) -> Job[Any]:
        return self.jobs[int(place * len(self.jobs))]

    @precondition(lambda self: self.jobs)
    @rule(place=some)
    def cancel(self, place: float) -> None:
        job = self.pick(place)
        self.same(job.cancel, lambda: self.truth.cancel(job.id, self.now))

    @precondition(lambda self: self.jobs)
    @rule(place=some)
    def retry(self, place: float) -> None:
        job = self.pick(place)
        self.same(job.retry, lambda: self.truth.retry(job.id, self.now))

    @precondition(lambda self: self.jobs)
    @rule(q=which, place=some)
    def look(self, q: int, place: float) -> None:
        """The same by `refresh()`, and by its id through any queue."""
        job = self.pick(place)
        for act in (job.refresh, lambda: self.queues[q].job(job.id)):
            self.same(lambda act=act: _seen(act()), lambda: self.must_be_seen(job.id))

    def must_be_seen(self, job_id: str) -> tuple[Any, ...]:
        row = self.truth.known(job_id, self.now)
        errors = [(attempt, kind) for (job, attempt), (_, kind) in sorted(self.truth.errors.items()) if job == row.id]
        times = (row.run_at, row.started_at, row.finished_at)
        return STATES[row.state], row.task, row.queue, row.attempt, row.priority, row.key, row.schedule, times, errors

    @precondition(lambda self: self.jobs)
    @rule(place=some)
    def result(self, place: float) -> None:
        job = self.pick(place)
        self.same(lambda: job.result(0), lambda: self.must_result(job.id))

    def must_result(self, job_id: str) -> Any:
        row = self.truth.known(job_id, self.now)
        if row.state == SUCCEEDED:
            return int(row.result or b"0")
        if row.state <= RUNNING:
            raise TimeoutError
        errors = {CANCELLED: JobCancelled("was"), EXPIRED: JobExpired("has")}
        raise errors.get(row.state, JobFailed(job_id, "", ""))

    @rule(
        q=which,
        status=st.none() | st.sampled_from(Status),
        task=st.none() | name_of_task,
        queue=st.none() | st.sampled_from(QUEUES),
        tag=st.none() | st.sampled_from(("red", "blue")),
        limit=st.sampled_from((1, 3, 1000)),
    )
    def listing(self, q: int, limit: int, **where: Any) -> None:
        """Page by page, newest first: all that match."""
        pages: list[str] = []
        while page := self.queues[q].jobs(**where, limit=limit, before=pages[-1] if pages else None):
            pages += [job.id for job in page]

        def wanted(row: Row) -> bool:
            names = where["task"] in (None, row.task) and where["queue"] in (None, row.queue)
            tagged = where["tag"] is None or f'"{where["tag"]}"' in (row.tags or "")
            return not is_over(row, self.now) and names and tagged and where["status"] in (None, STATES[row.state])

        assert pages == [str(each) for each in self.truth.listed(wanted, 10_000)]

    # ---- schedules

    @rule(q=which, name=st.sampled_from(NAMES), verb=st.sampled_from(("pause", "resume", "remove")))
    def change_schedule(self, q: int, name: str, verb: str) -> None:
        change = getattr(self.truth.ticks, verb)
        now = (self.now,) if verb == "resume" else ()
        self.same(lambda: getattr(self.queues[q].schedules, verb)(name), lambda: change(name, *now))

    @rule(
        q=which,
        name=st.sampled_from(NAMES[1:]),
        task=name_of_task,
        n=number,
        span=st.sampled_from((60.0, HOUR)),
        replace=st.booleans(),
    )
    def add_schedule(self, q: int, name: str, task: str, n: int, span: float, *, replace: bool) -> None:
        queue = self.queues[q]
        call, when = queue.tasks[task].s(n), every(span)
        new = record_of(name, call.scheduled(), when, {})
        act = lambda: queue.schedules.add(name, call, when, replace=replace).name  # noqa: E731
        self.same(act, lambda: self.truth.ticks.put(new, self.now, replace_it=replace) or name)

    @rule(q=which, name=st.sampled_from(NAMES))
    def trigger_now(self, q: int, name: str) -> None:
        act = lambda: self.keep([self.queues[q].schedules.trigger_now(name)])[0]  # noqa: E731
        self.same(act, lambda: self.truth.ticks.trigger_now(name, self.now))

    # ---- time

    @rule(span=st.sampled_from((0.5, 31.0, 61.0, 700.0, HOUR)))
    def time_passes(self, span: float) -> None:
        self.clock.advance(span)

    @rule(span=st.sampled_from((-HOUR, HOUR)))
    def the_clock_jumps(self, span: float) -> None:
        self.clock.step(span)

    @rule(q=which, limit=st.sampled_from((1, 500)))
    def prune(self, q: int, limit: int) -> None:
        store = self.queues[q].engine
        self.same(lambda: store.maintenance.prune(limit), lambda: self.truth.prune(self.now, limit))


class OwnTransaction:
    """A connection of the application's own, with a transaction open for the block."""

    def __init__(self, path: Path, driver: str) -> None:
        import sqlite3

        import apsw

        opened = apsw.Connection(str(path)) if driver == "apsw" else sqlite3.connect(path, isolation_level=None)
        self._db: Any = opened

    def __enter__(self) -> Any:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def __exit__(self, kind: object, *_: object) -> None:
        with closing(self._db) as db:
            db.execute("COMMIT" if kind is None else "ROLLBACK")


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except (LiteQueueError, TimeoutError) as error:
        return None, error


def _seen(job: Job[Any]) -> tuple[Any, ...]:
    times = tuple(None if each is None else each.timestamp() for each in (job.run_at, job.started_at, job.finished_at))
    errors = [(error.attempt, error.type) for error in job.errors]
    return job.status, job.task, job.queue, job.attempt, job.priority, job.key, job.schedule, times, errors
