"""An id is written in one way: what SQLite would take for the same number is another text, and no job."""

import asyncio

import pytest

from contract.jobs import put
from litequeue.errors import JobNotFound

OTHERS = ["1.0", " 1", "1 ", "+1", "01", "1e0", "-1", "", "\u0661", "True", "0x1", "9" * 30, "x"]


@pytest.mark.parametrize("text", OTHERS)
def test_a_text_that_is_no_id_is_no_job(store, text):
    assert put(store) == "1"
    jobs = store.jobs
    for call in (jobs.look_up, jobs.has_ended, jobs.cancel, jobs.retry):
        with pytest.raises(JobNotFound):
            call(text)
    with pytest.raises(JobNotFound):
        jobs.wait(text, 0)
    with pytest.raises(JobNotFound):
        asyncio.run(jobs.alook_up(text))
    assert jobs.look_up("1").status == "queued"
