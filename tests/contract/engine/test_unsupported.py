"""What an engine lacks is refused where it is asked for; what it says that it has can be asked for."""

import asyncio
from datetime import timedelta

import pytest

from litequeue import Job, JobFailed, Unsupported, every, group
from litequeue.core.engine import Feature


def embed(rig):
    with rig.queue.worker(threads=1):
        pass


async def aembed(rig):
    async with rig.queue.worker(threads=1):
        pass


async def atransact(rig):
    async with rig.queue.atransaction():
        pass


def transact(rig):
    with rig.queue.transaction():
        pass


def within(rig):
    with rig.queue.transaction() as connection:
        rig.tasks.add.using(within=connection)


def within_something(rig):
    """Where there are no transactions there is no connection to give either."""
    rig.tasks.add.using(within=object())


def declared(rig, name, **options):
    rig.queue.task(name=name, **options)(rig.tasks.identity.function)


def any_job(rig):
    """A job to ask something of; none is stored where that is refused."""
    return Job("1", rig.engine.jobs, bytes) if rig.lacks(Feature.POSITION) else rig.tasks.add.enqueue(1)


async def aposition(rig):
    await any_job(rig).aposition()


ASKING = {
    Feature.TRANSACTION: [transact, lambda rig: asyncio.run(atransact(rig)), within, within_something],
    Feature.KEYS: [
        lambda rig: rig.tasks.add.using(key="k"),
        lambda rig: declared(rig, "unique", unique=True),
        lambda rig: declared(rig, "per user", unique=lambda: "k"),
    ],
    Feature.KEY_QUEUED: [
        lambda rig: rig.tasks.add.using(key_scope="queued"),
        lambda rig: rig.tasks.add.using(key="k", key_scope="queued"),
        lambda rig: declared(rig, "unique", unique=True, key_scope="queued"),
    ],
    Feature.KEY_FOR: [
        lambda rig: rig.tasks.add.using(key_scope="10s"),
        lambda rig: rig.tasks.add.using(key="k", key_scope=timedelta(seconds=10)),
        lambda rig: declared(rig, "unique", unique=True, key_scope="10s"),
    ],
    Feature.REPLACE: [
        lambda rig: rig.tasks.add.using(on_conflict="replace"),
        lambda rig: rig.tasks.add.using(key="k", on_conflict="replace"),
    ],
    Feature.AT_MOST_ONCE: [lambda rig: declared(rig, "once", delivery="at_most_once")],
    Feature.MAX_PENDING: [lambda rig: declared(rig, "few", max_pending=3)],
    Feature.POSITION: [lambda rig: any_job(rig).position(), lambda rig: asyncio.run(aposition(rig))],
    Feature.STREAMS: [lambda rig: any_job(rig).stream()],
    Feature.LISTING: [lambda rig: rig.queue.jobs(), lambda rig: asyncio.run(rig.queue.ajobs())],
    Feature.SCHEDULES: [
        lambda rig: rig.queue.schedules.add("s", rig.tasks.add.s(1), every("1h")),
        lambda rig: list(rig.queue.schedules),
        lambda rig: declared(rig, "hourly", schedule=every("1h")),
    ],
    Feature.LIMITS: [
        lambda rig: rig.queue.limit("openai", concurrency=1),
        lambda rig: declared(rig, "alone", concurrency=1),
        lambda rig: list(rig.queue.limits),
        lambda rig: rig.queue.pause("email"),
        lambda rig: rig.queue.resume(task="add"),
        lambda rig: asyncio.run(rig.queue.apauses()),
        lambda rig: declared(rig, "render", uses={"gpu": 1}),
        lambda rig: rig.queue.worker(offers={"gpu": 1}),
        lambda rig: rig.queue.worker(queues={"default": 2}),
    ],
    Feature.COMPOSITION: [
        lambda rig: (rig.tasks.add.s(1) | rig.tasks.add.s()).enqueue(),
        lambda rig: asyncio.run(group(rig.tasks.add.s(1)).aenqueue()),
        lambda rig: rig.tasks.add.map([1, 2]),
        lambda rig: rig.tasks.add.chunks([1, 2], 1),
        lambda rig: rig.tasks.add.using(after=["1"]),
        lambda rig: rig.tasks.add.using(on_failure=rig.tasks.add.s(1)),
        lambda rig: declared(rig, "alert", on_success=rig.tasks.add.s(1)),
    ],
    Feature.LONG_DELAY: [
        lambda rig: rig.tasks.add.using(delay="5000d").enqueue(1),
        lambda rig: rig.tasks.add.using(delay="5000d").enqueue_many([(1,), (2,)]),
    ],
    Feature.VERSIONS: [
        lambda rig: declared(rig, "renamed", aliases=["before"]),
        lambda rig: declared(rig, "changed", version=2),
    ],
    Feature.PROCESSES: [
        lambda rig: declared(rig, "apart", process=True),
        lambda rig: rig.queue.worker(max_jobs_per_child=3),
        lambda rig: rig.queue.worker(max_memory_per_child="500MB"),
    ],
    Feature.RECYCLING: [
        lambda rig: rig.queue.worker(max_jobs=3),
        lambda rig: rig.queue.worker(max_memory="100GB"),
    ],
    Feature.JOB_LOGS: [
        lambda rig: declared(rig, "chatty", job_logs="64KiB"),
        lambda rig: Job("1", rig.engine.jobs, bytes).logs() if rig.lacks(Feature.JOB_LOGS) else None,
    ],
    Feature.EMBEDDED: [embed, lambda rig: asyncio.run(aembed(rig))],
}
WAYS = [(feature, way) for feature, ways in ASKING.items() for way in ways]

# Not among them: a batch is not refused where it is not atomic, its calls are stored in order; `completing()` can be
# asked for in a running job only (below); for workflows nothing asks yet.
OTHERS = {Feature.ATOMIC_BATCH, Feature.COMPLETING, Feature.WORKFLOWS}


def test_every_feature_is_asked_for():
    assert set(ASKING) | OTHERS == set(Feature)


@pytest.mark.parametrize(
    ("feature", "ask"), WAYS, ids=[f"{feature}-{number}" for number, (feature, _) in enumerate(WAYS)]
)
def test_what_an_engine_lacks_is_refused_and_what_it_has_is_not(rig, feature, ask):
    if not rig.lacks(feature):
        ask(rig)
        return
    tasks = set(rig.queue.tasks)
    with pytest.raises(Unsupported, match=rf"^{rig.engine.name}: .+ is not supported; ."):
        ask(rig)
    assert rig.stored() == 0
    assert set(rig.queue.tasks) == tasks


def test_completing_is_refused_in_the_job_that_asks_for_it(rig):
    job = rig.tasks.complete.enqueue()
    rig.work()
    if not rig.lacks(Feature.COMPLETING):
        assert job.result(5) == "in the block"
        return
    with pytest.raises(JobFailed, match=rf"Unsupported: {rig.engine.name}: current_job\(\)\.completing\(\)"):
        job.result(5)


def test_the_file_is_sqlites_alone(rig, tmp_path):
    if rig.engine.name == "sqlite":
        assert rig.queue.backup(tmp_path / "copy.db") == tmp_path / "copy.db"
        assert rig.queue.path == tmp_path / "app.db"
        return
    with pytest.raises(Unsupported, match=rf"^{rig.engine.name}: queue.path is not supported"):
        _ = rig.queue.path
    with pytest.raises(Unsupported, match=rf"^{rig.engine.name}: queue.backup\(\) is not supported"):
        rig.queue.backup(tmp_path / "copy.db")
    with pytest.raises(Unsupported, match=rf"^{rig.engine.name}: queue.lock\(\) is not supported"):
        rig.queue.lock("nightly")
    with pytest.raises(ValueError, match=rf"is on {rig.engine.name}, and has no file to bind"):
        rig.queue.bind(tmp_path / "app.db")
    assert list(tmp_path.iterdir()) == []
