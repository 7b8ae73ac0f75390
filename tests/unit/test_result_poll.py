"""The one look of a process at the jobs that it waits for."""

import pytest

from litequeue.errors import StoreBusy
from litequeue.ipc.result_poll import CHUNK, ResultPoll


class File:
    """A file in which jobs end; it notes what it is asked."""

    def __init__(self):
        self.commits, self.ended, self.asked = 0, set(), []
        self.on_version = lambda: None

    def end(self, job_id):
        self.ended.add(job_id)
        self.commits += 1

    def file_version(self):
        self.asked.append("version")
        version = self.commits
        self.on_version()
        return version

    def ended_among(self, job_ids):
        self.asked.append(len(job_ids))
        return [job_id for job_id in job_ids if job_id in self.ended]


def refuse():
    raise StoreBusy("in use")


def test_a_file_that_nobody_has_written_is_asked_for_its_version_alone():
    file = File()
    poll = ResultPoll(file)
    for _ in range(3):
        assert poll.look(lambda: ["1", "2"]) == []
    assert file.asked == ["version", 2, "version", "version"]


def test_what_has_ended_since_the_last_look_is_found():
    file = File()
    poll = ResultPoll(file)
    poll.look(lambda: ["1", "2"])
    file.end("2")
    assert poll.look(lambda: ["1", "2"]) == ["2"]


def test_a_job_that_is_waited_for_amid_a_look_and_ends_amid_it_is_found():
    file, waiting = File(), ["1"]
    poll = ResultPoll(file)

    def another_waits_and_its_job_ends():
        file.on_version = lambda: None
        waiting.append("2")
        file.end("2")

    file.on_version = another_waits_and_its_job_ends
    found = poll.look(lambda: list(waiting)) + poll.look(lambda: list(waiting))
    assert "2" in found


def test_a_look_that_fails_is_made_again():
    file = File()
    poll = ResultPoll(file)
    file.end("1")
    file.on_version = refuse
    with pytest.raises(StoreBusy):
        poll.look(lambda: ["1"])
    file.on_version = lambda: None
    assert poll.look(lambda: ["1"]) == ["1"]


def test_many_jobs_are_read_in_chunks_so_that_other_readers_wait_a_moment_only():
    file = File()
    ResultPoll(file).look(lambda: [str(number) for number in range(CHUNK + 5)])
    assert file.asked == ["version", CHUNK, 5]
