"""What runs log, as text and as server-sent events of a FastAPI application, called in this process."""

import asyncio
import json
import logging
import threading

import pytest

from litequeue import Queue, current_job

DEADLINE = 60  # seconds; only a defect waits so long

fastapi = pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

from fastapi import Depends, FastAPI, HTTPException  # noqa: E402

from litequeue.integrations.fastapi import jobs_router  # noqa: E402
from litequeue.integrations.log_events import LogEvents  # noqa: E402

SHOP = logging.getLogger("litequeue's test of logs in FastAPI")


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE))


@pytest.fixture
def queue(database):
    SHOP.disabled = False  # as another test may leave it
    SHOP.setLevel(logging.INFO)
    with Queue(database, durability="normal", job_logs="4KiB") as queue:
        yield queue
    SHOP.setLevel(logging.NOTSET)


@pytest.fixture
def pack(queue):
    @queue.task(retries=1, backoff=0)
    def pack(*texts):
        for text in texts:
            SHOP.info(text)
        if "fail once" in texts and current_job().attempt == 1:
            raise ValueError

    return pack


def routed(queue, **options):
    app = FastAPI()
    app.include_router(jobs_router(queue, **{"dependencies": [], "logs": True} | options), prefix="/jobs")
    return app


def get(app, path, **headers):
    async def call():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return run(call())


def events_of(text):
    """Return (name, id, data) of each event in a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = [line.split(": ", 1) for line in block.splitlines() if not line.startswith((":", "retry"))]
        if fields:
            data = "\n".join(value for name, value in fields if name == "data")
            found.append((dict(fields).get("event", "message"), dict(fields)["id"], data))
    return found


def logged(queue, *texts):
    """Run a job that logs these; return its id."""
    job = queue.tasks[next(iter(queue.tasks))].enqueue(*texts)
    queue.worker(threads=1).run(until_idle=True)
    return job.id


def test_the_kept_lines_are_sent_as_text(queue, pack):
    job_id = logged(queue, "one", "<b>two</b>")
    answer = get(routed(queue), f"/jobs/{job_id}/logs")
    assert answer.text == queue.job(job_id).logs()
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert get(routed(queue), f"/jobs/{job_id}/logs?attempt=2").text == ""
    assert get(routed(queue), f"/jobs/{job_id}/logs?attempt=0").status_code == 422


def test_there_are_no_such_routes_unless_asked_for(queue, pack):
    job_id = logged(queue, "one")
    for path in ("logs", "logs/events"):
        assert get(routed(queue, logs=False), f"/jobs/{job_id}/{path}").status_code == 404


def test_dependencies_decide_who_reads(queue, pack):
    def refuse():
        raise HTTPException(403)

    job_id = logged(queue, "one")
    for path in ("logs", "logs/events"):
        assert get(routed(queue, dependencies=[Depends(refuse)]), f"/jobs/{job_id}/{path}").status_code == 403
        assert get(routed(queue), f"/jobs/77/{path}").status_code == 404


def test_events_tell_of_runs_their_lines_and_the_end(queue, pack):
    job_id = logged(queue, "one\r\ntwo", "fail once")
    answer = get(routed(queue), f"/jobs/{job_id}/logs/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [name for name, *_ in events] == ["run", "message", "run", "message", "end"]
    assert [json.loads(events[place][2]) for place in (0, 2)] == [{"attempt": 1}, {"attempt": 2}]
    assert [line.split(": ", 1)[-1] for line in events[3][2].splitlines()] == ["one", "two", "fail once"]
    assert json.loads(events[-1][2]) == {"status": "succeeded"}


def test_a_client_that_connects_again_is_sent_the_rest(queue, pack):
    job_id = logged(queue, "one", "fail once")
    events = events_of(get(routed(queue), f"/jobs/{job_id}/logs/events").text)
    for place, (_, number, _) in enumerate(events[:-1]):
        rest = events_of(get(routed(queue), f"/jobs/{job_id}/logs/events", last_event_id=number).text)
        assert rest == events[place + 1 :]
    assert get(routed(queue), f"/jobs/{job_id}/logs/events", last_event_id=events[-1][1]).status_code == 204
    assert events_of(get(routed(queue), f"/jobs/{job_id}/logs/events", last_event_id="nonsense").text) == events


def test_lines_are_sent_while_the_job_runs_to_all_who_follow(queue, soon):
    begun, go = threading.Event(), threading.Event()

    @queue.task
    def slow():
        SHOP.info("first")
        begun.set()
        go.wait(30)
        SHOP.info("second")

    job = slow.enqueue()
    follows = LogEvents(queue)

    async def follow():
        found = []
        async for text in follows.follow(job, None):
            found.append(text)
            if "first" in text:
                go.set()
        return found

    async def both():
        return await asyncio.gather(follow(), follow())

    with queue.worker(threads=1):
        assert begun.wait(20)
        for found in run(both()):
            assert [name for name, *_ in events_of("".join(found))] == ["run", "message", "message", "end"]


def test_one_who_leaves_ends_the_look_and_a_pruned_job_the_stream(queue, pack):
    job = pack.using(delay="1h").enqueue("never")
    follows = LogEvents(queue)

    async def leave():
        events = follows.follow(job, None)
        await anext(events)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        await events.aclose()
        assert follows._followed[asyncio.get_running_loop()] == {}
        return len(asyncio.all_tasks()) <= 2

    assert run(leave())
    with queue.transaction() as db:
        db.execute("DELETE FROM litequeue_jobs")

    async def whole():
        return [text async for text in follows.follow(job, None)]

    assert run(whole()) == ["retry: 1000\n\n"]
