"""What jobs emit, as server-sent events of a FastAPI application, called in this process."""

import asyncio
import json
import signal
import sys

import pytest

from litequeue import Queue, Unsupported, current_job
from litequeue.integrations import stream_events

DEADLINE = 60  # seconds; only a defect waits so long

fastapi = pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

from fastapi import Depends, FastAPI, HTTPException  # noqa: E402

from litequeue.integrations.fastapi import jobs_router  # noqa: E402


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE))


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def say(queue):
    @queue.task(retries=1, backoff=0)
    def say(*values):
        for value in values:
            current_job().emit(value)
        if "fail once" in values and current_job().attempt == 1:
            raise ValueError

    return say


def routed(queue, **options):
    app = FastAPI()
    app.include_router(jobs_router(queue, **{"dependencies": [], "streams": True} | options), prefix="/jobs")
    return app


def get(app, path, **headers):
    async def call():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=headers)

    return run(call())


def events_of(text):
    """Return (name, id, data) of each event in a stream."""
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if block != ":"]
    return [(block["event"], block["id"], json.loads(block["data"])) for block in blocks if "data" in block]


def said(queue, *values):
    """Run a job that emits these; return its id."""
    job = queue.tasks["say"].using().enqueue(*values)
    queue.worker(threads=1).run(until_idle=True)
    return job.id


@pytest.fixture(autouse=True)
def named(queue, say):
    queue._tasks.add("say", say, ())


def test_each_value_is_an_event_by_its_number_and_the_last_tells_of_the_job(queue):
    *values, (name, last, job) = events_of(get(routed(queue), f"/jobs/{said(queue, 'a', {'b': None})}/stream").text)
    assert values == [("value", "1", "a"), ("value", "2", {"b": None})]
    assert (name, last, job["status"]) == ("end", "2-end", "succeeded")


def test_a_job_that_emits_nothing_has_an_end(queue):
    [(name, last, job)] = events_of(get(routed(queue), f"/jobs/{said(queue)}/stream").text)
    assert (name, last, job["id"]) == ("end", "0-end", "1")


def test_another_attempt_is_an_event(queue):
    events = events_of(get(routed(queue), f"/jobs/{said(queue, 'fail once')}/stream").text)
    assert events[:3] == [("value", "1", "fail once"), ("attempt", "2", {"attempt": 2}), ("value", "3", "fail once")]


@pytest.mark.parametrize(
    ("query", "header", "ids"),
    [
        ("", "1", ["2", "3", "3-end"]),
        ("?after=2", None, ["3", "3-end"]),
        ("?after=1", "2", ["3", "3-end"]),
        ("", "3", ["3-end"]),
        ("?after=1", "none of ours", ["2", "3", "3-end"]),
        ("", "99999999999999999999999", ["1", "2", "3", "3-end"]),
    ],
)
def test_a_client_goes_on_behind_what_it_has(queue, query, header, ids):
    headers = {} if header is None else {"Last-Event-ID": header}
    text = get(routed(queue), f"/jobs/{said(queue, 'a', 'b', 'c')}/stream{query}", **headers).text
    assert [event_id for _, event_id, _ in events_of(text)] == ids


def test_a_client_that_has_the_end_is_told_not_to_come_again(queue):
    path = f"/jobs/{said(queue, 'a')}/stream"
    assert get(routed(queue), path, **{"Last-Event-ID": "1-end"}).status_code == 204


def test_a_client_that_has_the_end_of_a_job_that_was_retried_gets_what_came_since(queue):
    @queue.task(name="gone")
    def gone():
        current_job().emit(current_job().attempt)
        if current_job().attempt == 1:
            raise ValueError

    job = gone.enqueue()
    queue.worker(threads=1).run(until_idle=True)
    job.retry()

    async def follow():
        worker = queue.worker(threads=1)
        async with worker:
            return await in_app(routed(queue), f"/jobs/{job.id}/stream", **{"Last-Event-ID": "1-end"})

    assert [event_id for _, event_id, _ in events_of(run(follow()).text)] == ["2", "3", "3-end"]


async def in_app(app, path, **headers):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path, headers=headers)


def test_values_that_are_not_there_are_answered_by_their_job(queue):
    assert get(routed(queue), "/jobs/9/stream").json() == {"detail": "there is no job 9"}
    assert get(routed(queue), "/jobs/9/stream?after=-1").status_code == 422
    assert get(routed(queue), "/jobs/9/stream?after=x").status_code == 422


def test_the_route_is_not_there_unless_it_is_asked_for(queue):
    assert get(routed(queue, streams=False), f"/jobs/{said(queue, 'a')}/stream").status_code == 404


def test_the_route_lets_nobody_in_whom_a_dependency_refuses(queue):
    def nobody(job_id: str):
        raise HTTPException(403, job_id)

    assert get(routed(queue, dependencies=[Depends(nobody)]), f"/jobs/{said(queue, 'a')}/stream").status_code == 403


def test_the_route_is_described(queue):
    described = routed(queue).openapi()["paths"]["/jobs/{job_id}/stream"]["get"]["responses"]
    assert {"200", "204", "404"} <= described.keys()


def test_a_codec_that_is_not_json_is_refused(database):
    class Odd:
        name = "odd"
        encode, decode = staticmethod(repr), staticmethod(len)

    with (
        Queue(database, codec=Odd()) as queue,
        pytest.raises(Unsupported, match="'odd' may be anything; write a route"),
    ):
        routed(queue)


def follower(queue, job):
    return stream_events.StreamEvents(queue, lambda job: job.to_dict()).follow(job, 0)


def test_many_clients_follow_a_job_as_it_emits(queue):
    @queue.task
    async def tick():
        for n in range(5):
            current_job().emit(n)
            await asyncio.sleep(0.02)

    async def follow():
        async with queue.worker():
            job = await tick.aenqueue()
            return await asyncio.gather(*[read(follower(queue, job)) for _ in range(20)])

    for text in run(follow()):
        assert [data for name, _, data in events_of(text) if name == "value"] == list(range(5))


async def read(events):
    return "".join([text async for text in events])


def test_a_stream_without_news_sends_comments(queue, say, monkeypatch):
    monkeypatch.setattr(stream_events, "HEARTBEAT", 0.001)

    async def wait():
        events = follower(queue, await say.aenqueue("a"))
        first = [await events.__anext__(), await events.__anext__()]
        await events.aclose()
        return first

    assert run(wait()) == ["retry: 1000\n\n", ":\n\n"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_streams_end_when_uvicorn_is_told_to_stop(queue, say, monkeypatch):
    monkeypatch.setattr(stream_events, "LOOK", 0.01)

    class Server:
        should_exit = False

        def handle_exit(self, *_signal):
            self.should_exit = True

    async def follow():
        following = [asyncio.ensure_future(read(follower(queue, await say.aenqueue("a")))) for _ in range(3)]
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)
        return await asyncio.gather(*following)

    before = signal.signal(signal.SIGTERM, Server().handle_exit)
    try:
        assert run(follow()) == ["retry: 1000\n\n"] * 3
    finally:
        signal.signal(signal.SIGTERM, before)
