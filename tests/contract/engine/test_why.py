"""A job of any engine says why it does not run, or how it has ended."""

import asyncio


def test_a_job_says_when_it_is_due_and_how_it_has_ended(rig):
    later = rig.tasks.add.using(delay="1h").enqueue(1, 2)
    assert later.why().startswith("it is due at ")
    job = rig.tasks.add.enqueue(1, 2)
    rig.work()
    assert job.why().startswith("it succeeded at ")
    assert asyncio.run(job.awhy()).startswith("it succeeded at ")
    later.cancel()
    assert later.why().startswith("it was cancelled at ")
