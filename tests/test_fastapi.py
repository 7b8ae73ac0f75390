"""litequeue in FastAPI and Starlette applications, called in this process; real servers are in test_fastapi_servers."""

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, get_args, get_type_hints

import pytest

from litequeue import Job, KeyConflict, Progress, Queue, Status, current_job
from litequeue.core.job_dict import JobDict
from litequeue.integrations import job_events, starlette
from litequeue.integrations.job_events import JobEvents

DEADLINE = 60  # seconds; only a defect waits so long

fastapi = pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

from fastapi import Depends, FastAPI, HTTPException  # noqa: E402

from litequeue.integrations.fastapi import Background, background, jobs_router, worker_lifespan  # noqa: E402


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE))


@pytest.fixture
def queue(database):
    with Queue(database) as queue:
        yield queue


@pytest.fixture
def send(queue):
    @queue.task
    def send(to: str) -> str:
        return to

    return send


def calls(app, *requests, **options):
    """Make requests of an application, one after the other; return the responses."""

    async def call():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(*request.split(), **options) for request in requests]

    return run(call())


def endpoint(function, *, through=lambda app: app, **options):
    """Call the only endpoint of an application."""
    app = FastAPI()
    app.get("/", **options)(function)
    [response] = calls(through(app), "GET /")
    return response


# ---- jobs instead of background tasks


def test_jobs_are_stored_before_the_response_is_sent(queue, send):
    stored = []

    def noting(app):
        async def noted(scope, receive, send):
            async def sending(message):
                stored.append((message["type"], [job.task for job in queue.jobs()]))
                await send(message)

            await app(scope, receive, sending)

        return noted

    def sign_up(jobs: Annotated[Background, Depends(background(queue), scope="function")]):
        jobs.add_task(send, "ada")
        jobs.add_task(send, to="bob")
        stored.append(("endpoint", [job.task for job in queue.jobs()]))

    assert endpoint(sign_up, through=noting).status_code == 200
    assert stored[:2] == [("endpoint", []), ("http.response.start", [send.name] * 2)]


@pytest.mark.parametrize(
    ("raised", "options", "status"),
    [(HTTPException(418), {}, 418), (ValueError(), {}, 500), (None, {"response_model": int}, 500)],
    ids=["HTTPException", "another error", "a response that does not fit its model"],
)
def test_nothing_is_stored_if_the_endpoint_fails(queue, send, raised, options, status):
    async def sign_up(jobs: Annotated[Background, Depends(background(queue), scope="function")]):
        jobs.add_task(send, "ada")
        if raised is not None:
            raise raised
        return "no number"

    assert endpoint(sign_up, **options).status_code == status
    assert queue.jobs() == []


def test_a_commit_that_fails_is_a_500_and_stores_nothing(queue, send):
    once = send.using(key="once", on_conflict="raise")
    once.enqueue("ada")

    async def sign_up(jobs: Annotated[Background, Depends(background(queue), scope="function")]):
        jobs.add_task(send, "bob")
        jobs.add_task(once, "bob")

    assert endpoint(sign_up).status_code == 500
    assert len(queue.jobs()) == 1


def test_options_of_a_call_hold_and_its_arguments_are_checked_in_the_endpoint(queue, send):
    async def sign_up(jobs: Annotated[Background, Depends(background(queue), scope="function")]):
        with pytest.raises(TypeError, match="argument"):
            jobs.add_task(send, whom="ada")
        jobs.add_task(send.using(delay="1h", tags=["mail"], priority=7), "ada")
        return repr(jobs)

    assert endpoint(sign_up).json() == "<Background jobs=1>"
    [job] = queue.jobs()
    assert (job.status, job.tags, job.priority) == ("scheduled", ("mail",), 7)


def test_a_function_that_is_no_task_is_refused_with_what_to_do(queue):
    jobs = Background(queue)
    with pytest.raises(TypeError, match=r"print is none: put @queue\.task above it.*after_response"):
        jobs.add_task(print, "lost")
    with pytest.raises(ValueError, match="after_response"):
        background(queue, plain="later")


def test_a_plain_function_runs_after_the_response_if_asked_to(queue, send):
    ran = []

    async def sign_up(
        jobs: Annotated[Background, Depends(background(queue, plain="after_response"), scope="function")],
    ):
        jobs.add_task(ran.append, "plain")
        jobs.add_task(send, "ada")
        return len(ran)

    assert endpoint(sign_up).json() == 0
    assert ran == ["plain"]
    assert len(queue.jobs()) == 1


def test_tasks_of_another_queue_or_with_a_transaction_of_their_own_are_refused(queue, send, tmp_path):
    with Queue(tmp_path / "other.db") as other:
        with pytest.raises(ValueError, match="another queue"):
            Background(other).add_task(send, "ada")
        with pytest.raises(ValueError, match="within="):
            Background(queue).add_task(send.using(within=object()), "ada")


def test_several_calls_made_to_jobs_are_stored_in_one_transaction(queue, send):
    with pytest.raises(KeyConflict):
        queue.submit(
            [send.new_job(queue, "ada"), *[send.using(key="k", on_conflict="raise").new_job(queue, "bob")] * 2]
        )
    assert queue.jobs() == []
    assert len(queue.submit([send.new_job(queue, "ada"), send.new_job(queue, to="bob")])) == 2


def test_without_the_scope_of_a_function_nothing_is_stored_and_the_response_is_a_500(queue, send):
    raised = []

    def catching(app):
        async def caught(*connection):
            try:
                await app(*connection)
            except RuntimeError as error:
                raised.append(str(error))
                raise

        return caught

    async def sign_up(jobs: Annotated[Background, Depends(background(queue))]):
        jobs.add_task(send, "ada")

    assert endpoint(sign_up, through=catching).status_code == 500
    assert 'scope="function"' in raised[0]
    assert queue.jobs() == []


def test_a_block_stores_jobs_at_its_end_or_none_at_all(queue, send):
    async def use():
        async with starlette.background(queue) as stored:
            stored.add_task(send, "ada")
            assert queue.jobs() == []
        with pytest.raises(KeyError):
            async with starlette.background(queue) as jobs:
                jobs.add_task(send, "bob")
                raise KeyError

        with pytest.raises(RuntimeError, match="enqueue"):
            stored.add_task(send, "late")  # as while a response is streamed: nobody would store it

    run(use())
    assert len(queue.jobs()) == 1


# ---- a job and its progress, as an endpoint returns them


def test_a_job_is_plain_values_with_the_fields_that_are_documented(queue, send):
    job = send.using(key="k", tags=["t"], expires="1h").enqueue("ada")
    for shown in (job, queue.job(job.id), queue.jobs()[0]):
        assert dict(shown) == shown.to_dict() == json.loads(json.dumps(shown.to_dict()))
        assert list(shown.to_dict()) == list(JobDict.__annotations__)
        assert (shown.to_dict()["key"], shown.to_dict()["tags"], shown.to_dict()["error"]) == ("k", ["t"], None)
    assert set(get_args(get_type_hints(JobDict)["status"])) == {status.value for status in Status}
    assert dict(Progress(1, 2, "x")) == Progress(1, 2, "x").to_dict() == {"done": 1, "total": 2, "note": "x"}


def test_the_error_of_a_job_is_that_of_its_last_attempt(queue):
    @queue.task
    def fail() -> None:
        raise ValueError("no address")

    job = fail.enqueue()
    queue.worker(threads=1).run(until_idle=True)
    errors = [shown.to_dict()["error"] for shown in (job.refresh(), queue.jobs()[0])]
    assert errors == ["ValueError: no address"] * 2


def test_endpoints_return_jobs_and_progress_as_they_would_return_models(queue, send):
    app = FastAPI()
    job = send.enqueue("ada")

    @app.get("/annotated")
    def annotated() -> Job[str]:
        return job

    @app.get("/modelled", response_model=Job)
    def modelled():
        return job

    @app.get("/bare")
    def bare():
        return {"job": job, "progress": Progress(1, 4)}

    @app.get("/listed")
    def listed() -> list[Job]:
        return queue.jobs()

    @app.get("/progress")
    def progress() -> Progress | None:
        return Progress(1, 4, "x")

    names = ["annotated", "modelled", "bare", "listed", "progress"]
    sent = [response.json() for response in calls(app, *(f"GET /{name}" for name in names))]
    whole, half = job.to_dict(), {"done": 1, "total": 4, "note": None}
    assert sent == [whole, whole, {"job": whole, "progress": half}, [whole], half | {"note": "x"}]
    schemas = app.openapi()["components"]["schemas"]
    assert list(schemas["Job"]["properties"]) == list(JobDict.__annotations__)
    assert schemas["Job"]["properties"]["created_at"]["format"] == "date-time"
    assert list(schemas["Progress"]["properties"]) == ["done", "total", "note"]


# ---- routes for jobs


def routed(queue, **options):
    app = FastAPI()
    app.include_router(jobs_router(queue, **{"dependencies": []} | options), prefix="/jobs")
    return app


def test_the_routes_tell_of_a_job_cancel_it_and_say_what_is_wrong(queue, send):
    job = send.enqueue("ada")
    app = routed(queue)
    requests = "GET /jobs/1", "POST /jobs/1/cancel", "POST /jobs/1/cancel", "GET /jobs/9", "POST /jobs/9/cancel"
    read, cancelled, again, *missing = calls(app, *requests, "GET /jobs/9/events")
    assert read.json() == job.to_dict()
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert (again.status_code, again.json()) == (409, {"detail": "job 1 has ended already: cancelled"})
    assert [(each.status_code, each.json()) for each in missing] == [(404, {"detail": "there is no job 9"})] * 3
    described = app.openapi()
    assert described["components"]["schemas"]["Job"]["required"] == list(JobDict.__annotations__)
    assert {"200", "404", "409"} <= described["paths"]["/jobs/{job_id}/cancel"]["post"]["responses"].keys()


def test_the_routes_let_nobody_in_whom_a_dependency_refuses(queue, send):
    def only_first(job_id: str):
        if job_id != "1":
            raise HTTPException(403)

    send.enqueue_many([("ada",), ("bob",)])
    app = routed(queue, dependencies=[Depends(only_first)])
    requests = "GET /jobs/1", "GET /jobs/2", "GET /jobs/2/events", "POST /jobs/2/cancel"
    assert [response.status_code for response in calls(app, *requests)] == [200, 403, 403, 403]
    with pytest.raises(TypeError, match="dependencies"):
        jobs_router(queue)


@pytest.mark.parametrize(("options", "error"), [({}, "ValueError"), ({"errors": True}, "ValueError: not swordfish")])
def test_the_routes_show_an_errors_text_only_if_asked_to_and_arguments_never(queue, options, error):
    @queue.task(mask=["password"])
    def log_in(user: str, password: str) -> None:
        raise ValueError("not swordfish")

    log_in.enqueue("ada-lovelace", password="hunter2")
    queue.worker(threads=1).run(until_idle=True)
    responses = calls(routed(queue, **options), "GET /jobs/1", "GET /jobs/1/events")
    assert responses[0].json()["error"] == error
    for response in responses:
        assert "hunter2" not in response.text
        assert "ada-lovelace" not in response.text


# ---- server-sent events


def events_of(text):
    """Return (name, id, job) of each event in a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("event", "message"), fields["id"], json.loads(fields["data"])))
    return found


async def followed(events, job, last=None):
    """Follow a job to its end; return the events."""
    return events_of("".join([text async for text in events.follow(job, last)]))


def test_events_tell_of_each_state_and_progress_once_and_end_with_the_job(queue, monkeypatch):
    monkeypatch.setattr(job_events, "LOOK", 0.01)
    seen = asyncio.Event()

    @queue.task
    async def pack() -> None:
        await current_job().aprogress(1, 2, "half")
        await seen.wait()

    async def follow():
        events, job = JobEvents(queue, Job.to_dict), await pack.aenqueue()
        told = []
        async with queue.worker(threads=1):
            async for text in events.follow(await job.arefresh(), None):
                told += events_of(text)
                if told and told[-1][2]["progress"]:
                    seen.set()
        return told

    told = run(follow())
    assert [name for name, _, _ in told] == ["message"] * (len(told) - 1) + ["end"]
    assert told[-2][2]["progress"] == {"done": 1, "total": 2, "note": "half"}
    assert (told[-2][2]["status"], told[-1][2]["status"]) == ("running", "succeeded")
    assert len({key for _, key, _ in told}) == len(told)


def test_a_client_that_comes_back_is_sent_only_what_it_does_not_have(queue, send):
    app, job = routed(queue), send.enqueue("ada")
    events = JobEvents(queue, Job.to_dict)
    before = events.event(job.refresh()).id
    queue.worker(threads=1).run(until_idle=True)
    [[(name, last, shown)]] = [events_of(response.text) for response in calls(app, "GET /jobs/1/events")]
    assert (name, shown["status"]) == ("end", "succeeded")
    [missed] = calls(app, "GET /jobs/1/events", headers={"Last-Event-ID": before})
    assert [name for name, _, _ in events_of(missed.text)] == ["end"]
    assert missed.headers["content-type"].startswith("text/event-stream")
    [again] = calls(app, "GET /jobs/1/events", headers={"Last-Event-ID": last})
    assert (again.status_code, again.text) == (204, "")


def test_all_who_follow_a_job_share_one_look(queue, send, monkeypatch):
    monkeypatch.setattr(job_events, "LOOK", 0.01)
    looks = []

    class Counted(JobEvents):
        async def read(self, job_id):
            looks.append(asyncio.current_task())
            return await super().read(job_id)

    async def follow():
        events, job = Counted(queue, Job.to_dict), (await send.aenqueue("ada"))
        following = [asyncio.ensure_future(followed(events, job)) for _ in range(20)]
        while len(looks) < 5:
            await asyncio.sleep(0)
        lookers = set(looks)
        await job.acancel()
        return lookers, await asyncio.gather(*following), events

    lookers, told, events = run(follow())
    assert len(lookers) == 1
    assert {each[-1][2]["status"] for each in told} == {"cancelled"}
    assert [jobs._jobs for jobs in events._followed.values()] in ([], [{}])


def test_a_stream_without_news_sends_comments_and_ends_when_its_client_has_gone(queue, send, monkeypatch):
    monkeypatch.setattr(job_events, "HEARTBEAT", 0.001)
    app, commented = routed(queue), []
    send.enqueue("ada")

    async def leave():
        async def receive():
            while not commented:
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        async def send(message):
            if message.get("body") == b":\n\n":
                commented.append(message)

        path = "/jobs/1/events"
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": []}
        await app(scope | {"query_string": b"", "root_path": "", "scheme": "http"}, receive, send)

    run(leave())  # it returns, though the job has not ended
    assert commented


def test_streams_end_when_uvicorn_is_told_to_stop(queue, send, monkeypatch):
    monkeypatch.setattr(job_events, "LOOK", 0.01)

    class Server:
        should_exit = False

        def handle_exit(self, *_signal):
            self.should_exit = True

    async def follow():
        job = await send.aenqueue("ada")
        following = asyncio.ensure_future(followed(JobEvents(queue, Job.to_dict), job))
        signal.raise_signal(signal.SIGTERM)
        return await following

    before = signal.signal(signal.SIGTERM, Server().handle_exit)
    try:
        [(name, _, shown)] = run(follow())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (name, shown["status"]) == ("message", "queued")


# ---- the worker beside an application


def test_a_lifespan_runs_a_worker_inside_the_applications_own(queue, send):
    steps = []

    @asynccontextmanager
    async def own(app):
        steps.append("begins")
        yield {"pool": app}
        steps.append([job.status for job in queue.jobs()])

    async def live():
        async with worker_lifespan(queue, lifespan=own, threads=1)("the application") as state:
            return state, await (await send.aenqueue("ada"))

    assert run(live()) == ({"pool": "the application"}, "ada")
    assert steps == ["begins", ["succeeded"]]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"threads": 0}, ValueError), ({"thread": 1}, TypeError), ({"lifespan": "mine"}, TypeError)],
)
def test_the_options_of_a_lifespan_are_checked_where_it_is_made(queue, options, error):
    with pytest.raises(error, match=next(iter(options))):
        worker_lifespan(queue, **options)


def test_one_of_several_processes_runs_the_worker_and_another_one_when_that_ends(queue, send, monkeypatch):
    first, second, third = (worker_lifespan(queue, one=True, threads=1)(None) for _ in range(3))
    make, made = queue.worker, []
    monkeypatch.setattr(queue, "worker", lambda **options: made.append(options) or make(**options))

    async def live():
        async with AsyncExitStack() as stack:
            await first.__aenter__()
            await stack.enter_async_context(second)
            async with third:  # it ends without a worker
                assert len(made) == 1
            await first.__aexit__(None, None, None)
            return await (await send.aenqueue("ada"))

    assert run(live()) == "ada"
    assert len(made) == 2


def test_a_worker_that_cannot_start_keeps_the_application_from_starting(queue, monkeypatch):
    def refuse(**_options):
        raise OSError("no threads")

    lifespan = worker_lifespan(queue, one=True)
    monkeypatch.setattr(queue, "worker", refuse)

    async def live():
        async with lifespan(None):
            pytest.fail("it started")

    with pytest.raises(OSError, match="no threads"):
        run(live())


def test_a_worker_that_cannot_start_when_its_turn_comes_is_told_of(queue, monkeypatch, caplog):
    def refuse(**_options):
        raise OSError("no threads")

    first, second = (worker_lifespan(queue, one=True, threads=1)(None) for _ in range(2))
    told = asyncio.Event()

    async def live():
        await first.__aenter__()
        await second.__aenter__()
        monkeypatch.setattr(queue, "worker", refuse)
        await first.__aexit__(None, None, None)
        async with asyncio.timeout(20) if sys.version_info >= (3, 11) else AsyncExitStack():
            while "the worker has ended; the application goes on without one" not in caplog.text:
                await asyncio.sleep(0.01)
        told.set()
        with pytest.raises(OSError, match="no threads"):
            await second.__aexit__(None, None, None)

    run(live())
    assert told.is_set()
