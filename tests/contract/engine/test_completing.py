"""Completing: the job's success commits with the caller's own rows."""

from litequeue.core.engine import Feature

NEEDS = {Feature.COMPLETING}


def test_the_block_ends_the_job_with_the_result_that_it_was_given(rig):
    job = rig.tasks.complete.enqueue()
    rig.work()
    assert job.result(5) == "in the block"
