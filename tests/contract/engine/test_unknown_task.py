"""A job of a task that this program does not have: left for a program that has it."""

from litequeue.core.records import NewJob


def test_a_job_of_an_unknown_task_is_left_alone_and_holds_nothing_up(rig):
    new = NewJob(task="of another release", queue="default", payload=b"[[],{}]", created_at=rig.queue.now())
    [submitted] = rig.engine.jobs.submit([new])
    known = rig.tasks.add.enqueue(1)
    rig.work()
    assert known.result(5) == 2
    left = rig.queue.job(submitted.id)
    assert (left.status, left.attempt) == ("queued", 0)
