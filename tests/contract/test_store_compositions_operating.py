"""What an operator sees of jobs that wait for others; what doctor finds and mends where someone changed the file."""

import asyncio

import pytest

from litequeue import JobCancelled, JobNotFound, Queue, Unsupported, chain, group
from litequeue.core.tree import MOST_NODES
from litequeue.sqlite.admin import repair
from litequeue.sqlite.compose.mend import astray

WHY_DELETED = "it waits for job 1, which was deleted from the file; `litequeue doctor --repair` ends it"


@pytest.fixture
def queue(database, driver):
    with Queue(database, driver=driver, durability="normal") as queue:
        yield queue


@pytest.fixture
def add(queue):
    return queue.task(name="add")(lambda *given: list(given))


@pytest.fixture
def boom(queue):
    @queue.task(name="boom", retries=0)
    def boom(*_given):
        raise ValueError("no")

    return boom


def write(queue, *statements):
    """Change the file behind litequeue's back."""
    queue.engine.admin.repair(lambda db: [db.rows(each) for each in statements] and "")


def mend(queue, how):
    return queue.engine.admin.repair(lambda db: how(db, queue.now(), queue.now() + 60))


def lost(queue):
    return queue.engine.kernel.read(astray)


def left_over(queue):
    return queue.engine.admin.orphans(), queue.engine.admin.stuck()


# why


def test_a_dependent_says_what_it_waits_for(queue, add):
    jobs = [add.enqueue(number) for number in range(5)]
    one, many = add.using(after=jobs[:1]).enqueue(), add.using(after=jobs).enqueue()
    body = (group(add.s(), add.s(), group(add.s(), add.s())) | add.s()).enqueue()
    both = add.using(after=[body, *jobs]).enqueue()
    assert one.why() == f"it waits for job {jobs[0].id}"
    assert many.why() == asyncio.run(many.awhy()) == "it waits for 5 jobs: 1, 2, 3 and 2 more"
    assert body.why().endswith("of 4 jobs of group g1")
    queue.worker(max_jobs=2).run(until_idle=True)
    assert many.why() == "it waits for 3 jobs: 3, 4, 5"
    assert both.why() == "it waits for 4 jobs: 3, 4, 5 and 1 more"
    with pytest.raises(TimeoutError, match=r"is still waiting: it waits for 3 jobs: 3, 4, 5; waited"):
        many.result(0.01)


def test_a_group_is_told_by_how_many_have_not_ended(queue, add):
    body = (group(add.s() for _ in range(5)) | add.s()).enqueue()
    assert body.why() == "it waits for 5 of 5 jobs of group g1"
    queue.worker(max_jobs=2).run(until_idle=True)
    assert body.why() == "it waits for 3 of 5 jobs of group g1"


def test_one_that_a_parent_cancelled_says_so_everywhere(queue, add, boom):
    job = chain(boom.s(), add.s()).enqueue()
    queue.worker().run(until_idle=True)
    assert job.why().endswith(": parent 1 failed")
    with pytest.raises(JobCancelled, match=r"was cancelled: parent 1 failed$"):
        job.result(0)
    [listed, first] = queue.jobs()
    for found in (job.refresh(), listed):
        assert (found.reason, found.to_dict()["reason"]) == ("parent 1 failed", "parent 1 failed")
    assert first.to_dict()["reason"] == "ValueError: no"
    assert add.enqueue().to_dict()["reason"] is None


# listings


def test_a_listing_of_a_group_has_the_groups_in_it(queue, add):
    jobs = group(group(add.s() for _ in range(3)), add.s()).enqueue()
    add.enqueue()
    newest_first = [job.id for job in jobs.jobs][::-1]
    assert [job.id for job in queue.jobs(group=jobs)] == newest_first
    page = queue.jobs(group=jobs.id, limit=3)
    assert [job.id for job in page] == newest_first[:3]
    assert [job.id for job in queue.jobs(group=jobs.id, before=page.older)] == newest_first[3:]
    assert [job.id for job in asyncio.run(queue.ajobs(group=jobs.id, status="queued"))] == newest_first
    assert list(queue.jobs(group=jobs.id, task="other")) == []


def test_a_group_that_is_not_there_is_said_to_be_not_there(queue):
    with pytest.raises(JobNotFound, match="no group g7 in this file"):
        queue.jobs(group="g7")
    with pytest.raises(JobNotFound, match="the id of a group is like g7"):
        queue.jobs(group="seven")
    with pytest.raises(TypeError, match="group must be an id such as g7, got 7"):
        queue.jobs(group=7)


# the tree


def test_a_tree_of_many_reads_no_more_than_it_may(queue, add):
    layers = [[add.enqueue() for _ in range(20)]]
    for _ in range(4):
        layers.append([add.using(after=layers[-1]).enqueue() for _ in range(20)])

    def size(branch):
        return 1 + sum(map(size, branch.branches))

    for layer in layers:
        tree = queue.engine.compositions.tree(layer[0].id)
        assert size(tree.before) + size(tree.after) <= MOST_NODES + 2
    assert tree.before.more == 15


# doctor


def test_what_waits_for_its_parents_is_nothing_to_mend(queue, add):
    body = (group(chain(add.s(), add.s()), add.s()) | add.using(on_failure=add.s()).s()).enqueue()
    assert left_over(queue) == ({}, 0)
    assert mend(queue, repair.free_stuck) == "0 jobs are looked at again"
    assert body.refresh().status == "waiting"
    queue.worker().run(until_idle=True)
    assert (body.refresh().status, left_over(queue)) == ("succeeded", ({}, 0))


@pytest.mark.parametrize("how", [repair.drop_orphans, repair.free_stuck])
def test_what_waits_for_a_job_that_was_deleted_is_cancelled(queue, add, how):
    last = chain(add.s(), add.s(), add.s()).enqueue()
    write(queue, "DELETE FROM litequeue_jobs WHERE id = 1")
    assert queue.job("2").why() == WHY_DELETED
    assert left_over(queue) == ({"edges": 1}, 1)
    mend(queue, how)
    assert [(job.status, job.reason) for job in queue.jobs()] == [
        ("cancelled", "parent 2 cancelled"),
        ("cancelled", "parent 1 was deleted"),
    ]
    assert left_over(queue) == ({}, 0)
    with pytest.raises(Unsupported, match="waited for job 1, which was deleted from the file: enqueue it anew"):
        queue.job("2").retry()
    assert last.refresh().status == "cancelled"


@pytest.mark.parametrize("on", ["all", "always"])
def test_a_group_that_lost_a_member_ends_what_takes_its_results(queue, add, on):
    from litequeue import chord

    body = chord([group(add.s(), add.s()), add.s()], add.s(), on=on).enqueue()
    write(queue, "DELETE FROM litequeue_jobs WHERE id = 1")
    mend(queue, repair.drop_orphans)
    assert (body.refresh().status, body.reason) == ("cancelled", "parent 1 was deleted")
    queue.worker().run(until_idle=True)
    assert left_over(queue) == ({}, 0)


def test_what_runs_after_any_end_goes_on_without_the_deleted_one(queue, add):
    first, second = add.enqueue(), add.enqueue()
    last = add.using(after=[first, second], after_failed="run").enqueue()
    write(queue, "DELETE FROM litequeue_jobs WHERE id = 1")
    mend(queue, repair.free_stuck)
    assert last.why() == "it waits for job 2"
    queue.worker().run(until_idle=True)
    assert last.result(0) == []


@pytest.mark.parametrize(
    ("state", "status", "called"),
    [(4, "queued", None), (5, "cancelled", "queued"), (6, "cancelled", "cancelled")],
)
def test_an_end_that_was_written_by_hand_is_told(queue, add, state, status, called):
    first = add.using(on_failure=add.si()).enqueue()
    last = add.using(after=[first]).enqueue()
    write(
        queue,
        f"UPDATE litequeue_jobs SET state = {state}, finished_at = 1, delete_at = 9e9, held_key = NULL WHERE id = 1",
    )
    assert last.why() == "it waits for jobs that are ending now"
    assert left_over(queue) == ({}, 2)
    mend(queue, repair.free_stuck)
    assert (last.refresh().status, lost(queue)) == (status, 0)
    assert [job.status for job in queue.jobs() if job.id == "2"] == ([called] if called else [])


def test_rows_of_jobs_and_groups_that_are_gone_are_found_and_deleted(queue, add):
    (group(add.s(), add.s()) | add.s()).using(key="k").enqueue()
    write(
        queue,
        "INSERT INTO litequeue_unspread VALUES (1, 1, 5, 1, 0)",
        "DELETE FROM litequeue_jobs",
    )
    assert queue.engine.admin.orphans() == {
        "edges": 3,
        "groups": 1,
        "dependents": 1,
        "keys of compositions": 1,
        "ends to be told": 1,
    }
    mend(queue, repair.drop_orphans)
    assert left_over(queue) == ({}, 0)
    assert queue.engine.kernel.read(lambda db: db.rows("SELECT count(*) FROM litequeue_groups")) == [(0,)]


def test_a_job_is_not_given_a_group_that_lost_a_member(queue, add):
    body = (group(add.s(), add.s()) | add.using(queue="later").s()).enqueue()
    queue.worker(queues=["default"]).run(until_idle=True)
    write(queue, "DELETE FROM litequeue_jobs WHERE id = 1")
    mend(queue, repair.drop_orphans)
    assert body.refresh().status == "queued"
    queue.worker().run(until_idle=True)
    assert "not on record any more" in body.refresh().reason


# bulk


def test_ends_of_a_bulk_cancel_are_followed(queue, add):
    chains = [chain(add.s(), add.s()).enqueue() for _ in range(3)]
    middle = [str(int(each.id) - 1) for each in chains]
    [changed] = queue.engine.bulk.cancel(middle)
    assert (changed.done, sorted(changed.also), changed.refused) == (middle, sorted(each.id for each in chains), {})
    [changed] = queue.engine.bulk.retry(middle)
    assert (changed.done, changed.refused) == (middle, {})
    assert [each.refresh().status for each in chains] == ["waiting"] * 3
    assert [len(each.done) for each in queue.engine.bulk.cancel(queue.engine.bulk.unfinished())] == [6]


@pytest.mark.parametrize("ids", [["g1"], ["1", "2"]])
def test_what_is_too_much_for_a_transaction_ends_without_a_worker(queue, add, monkeypatch, ids):
    for place in ("ended", "cancel"):
        monkeypatch.setattr(f"litequeue.sqlite.compose.{place}.MOST", 5)
    (group(chain(*(add.s() for _ in range(7))), *(add.s() for _ in range(6))) | add.s()).enqueue()
    for _ in range(9):
        add.using(after=["1"], after_failed="cancel").enqueue()
    list(queue.engine.bulk.cancel(ids, whole=True))
    assert {job.status for job in queue.jobs() if int(job.id) > 14 or job.id == "7"} == {"cancelled"}
    assert left_over(queue) == ({}, 0)


def test_waits_end_by_a_bulk_cancel_of_what_they_wait_for(queue, add):
    last = chain(add.s(), add.s()).enqueue()

    async def waiting():
        wait = asyncio.ensure_future(last.aresult(20))
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: list(queue.engine.bulk.cancel(["1"])))
        with pytest.raises(JobCancelled, match="parent 1 cancelled"):
            await wait

    asyncio.run(waiting())
