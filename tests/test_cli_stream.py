"""The command `stream`: what a job has emitted, or emits."""

import json
import threading

import pytest
from click.testing import CliRunner

from litequeue import Queue, current_job
from litequeue.cli import main

DEADLINE = 20.0


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Queue("app.db", durability="normal") as queue:
        yield queue


@pytest.fixture
def say(queue):
    @queue.task(name="say")
    def say(*values):
        for value in values:
            current_job().emit(value)

    return say


def call(*arguments, code=0):
    result = CliRunner().invoke(main, ["stream", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_each_event_is_a_line_of_json(queue, say):
    say.enqueue("a", {"b": [1]})
    queue.worker(threads=1).run(until_idle=True)
    first, second = map(json.loads, call("app.db", "1").splitlines())
    assert list(first) == ["number", "kind", "attempt", "value", "at"]
    assert (first["number"], first["kind"], first["attempt"], first["value"]) == (1, "value", 1, "a")
    assert second["value"] == {"b": [1]}
    assert [json.loads(line)["number"] for line in call("app.db", "1", "--after", "1").splitlines()] == [2]


def test_without_follow_it_ends_with_what_is_there(queue, say):
    say.enqueue("a")
    assert call("app.db", "1") == ""


def test_with_follow_it_goes_on_until_the_job_has_ended(queue, say):
    job, found = say.enqueue("a", "b"), []
    following = threading.Thread(target=lambda: found.append(call("app.db", job.id, "--follow")))
    following.start()
    with queue.worker():
        following.join(DEADLINE)
    assert [json.loads(line)["value"] for line in found[0].splitlines()] == ["a", "b"]


def test_a_value_that_only_the_apps_codec_reads_is_null(tmp_path, monkeypatch, queue):
    class Odd:
        name = "odd"

        def encode(self, value):
            return b"\xff" + repr(value).encode()

        def decode(self, data):
            return eval(data[1:].decode())

    with Queue("odd.db", codec=Odd()) as odd:

        @odd.task(name="say")
        def say():
            current_job().emit((1, 2))

        say.enqueue()
        odd.worker(threads=1).run(until_idle=True)
    assert json.loads(call("odd.db", "1"))["value"] is None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("app.db",), 2, "give the id of one job"),
        (("app.db", "1", "2"), 2, "give the id of one job"),
        (("app.db", "7"), 1, "no job 7 in this file"),
        (("app.db", "1", "--after", "-1"), 2, "--after"),
    ],
)
def test_what_cannot_be_followed_is_said(queue, words, code, said):
    assert said in call(*words, code=code)
