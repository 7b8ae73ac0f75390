"""litequeue in a FastAPI application: a worker beside it, jobs instead of background tasks, routes for jobs.

`background()` needs FastAPI 0.121, the first whose `Depends` has a `scope`.
"""
# No postponed annotations: FastAPI reads those of the functions below, which are made inside others.

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Header, HTTPException, Query, Response, params
from fastapi.requests import HTTPConnection
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

from litequeue.core.engine import Feature
from litequeue.core.job_dict import JobDict
from litequeue.core.pydantic_schema import pydantic_type
from litequeue.errors import JobNotFound
from litequeue.integrations.job_events import JobEvents
from litequeue.integrations.log_events import LogEvents
from litequeue.integrations.starlette import Background, worker_lifespan
from litequeue.integrations.starlette import background as collecting
from litequeue.integrations.stream_events import StreamEvents, after_of
from litequeue.job import Job
from litequeue.queue import Queue

__all__ = ["Background", "background", "jobs_router", "worker_lifespan"]

EVENT_STREAM = "text/event-stream"
NOT_BUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second is for nginx
SCOPE = 'write Depends(background(queue), scope="function"): without it jobs are stored after the response is sent'


def background(
    queue: Queue, *, plain: Literal["after_response"] | None = None
) -> Callable[..., AsyncIterator[Background]]:
    """Make a dependency that collects jobs: `Annotated[Background, Depends(background(queue), scope="function")]`.

    They are stored in one transaction after the endpoint has returned, and before the response is sent; none if the
    endpoint raises, `HTTPException` too. If they cannot be stored, the response is the error's: a 500. `plain`: what
    becomes of functions that are no tasks; "after_response" runs them as FastAPI's `BackgroundTasks` does, which a
    restart loses, and by default they are refused.
    """
    if plain not in (None, "after_response"):
        raise ValueError(f'plain must be "after_response" or None, got {plain!r}')

    async def collect(connection: HTTPConnection, unstored: BackgroundTasks) -> AsyncIterator[Background]:
        over: list[bool] = []

        def check() -> None:
            if not over:
                raise RuntimeError(SCOPE)

        # FastAPI leaves it before the response: by then this is to be over
        stack = connection.scope.get("fastapi_function_astack")
        if stack is not None:
            stack.callback(check)
        try:
            async with collecting(queue, plain=None if plain is None else unstored.add_task) as jobs:
                yield jobs
        finally:
            over.append(True)

    return collect


class Problem(BaseModel):
    """What is wrong."""

    detail: str


def jobs_router(
    queue: Queue,
    *,
    dependencies: Sequence[params.Depends],
    errors: bool = False,
    streams: bool = False,
    logs: bool = False,
) -> APIRouter:
    """Make routes for the queue's jobs: `app.include_router(jobs_router(queue, dependencies=[...]), prefix="/jobs")`.

    `GET /{job_id}` sends a job's status and progress, `GET /{job_id}/events` their changes as server-sent events until
    it has ended, `POST /{job_id}/cancel` cancels it. Arguments and results are not sent. `dependencies`: what decides
    who may use the routes, such as `[Depends(login)]`; a dependency may take `job_id`. Ids are easy to guess, so none
    at all is an empty list, on purpose. `errors`: send the text of a job's error too, and not its type alone.
    `streams`: make `GET /{job_id}/stream` too, which sends what a job emits: these values are content, as a result is.
    Raises `Unsupported` for it where the queue's codec is not JSON. `logs`: make `GET /{job_id}/logs` too, which sends
    the kept lines that its runs have logged, as text, and `GET /{job_id}/logs/events`, which goes on with them.
    """
    router = APIRouter(dependencies=dependencies, tags=["jobs"])
    state: Any = pydantic_type(JobDict)
    not_found: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such job"}}
    ended: dict[int | str, dict[str, Any]] = {409: {"model": Problem, "description": "The job has ended already"}}
    streamed: dict[int | str, dict[str, Any]] = {
        200: {"content": {EVENT_STREAM: {}}, "description": "Each event holds the job; the last is named `end`"},
        204: {"description": "The job has ended, and Last-Event-ID names that event"},
    }

    shown = partial(_shown, errors=errors)
    job_events = JobEvents(queue, shown)

    async def found(job_id: str) -> Job[Any]:
        try:
            return await queue.ajob(job_id)
        except JobNotFound:
            raise HTTPException(404, f"there is no job {job_id}") from None

    @router.get("/{job_id}", response_model=state, responses=not_found)
    async def read_job(job_id: str) -> Any:
        return shown(await found(job_id))

    @router.get("/{job_id}/events", response_class=StreamingResponse, responses=not_found | streamed)
    async def follow_job(job_id: str, last_event_id: Annotated[str | None, Header()] = None) -> Response:
        job = await found(job_id)
        if job.status.finished and job_events.event(job).id == last_event_id:
            return Response(status_code=204)  # which ends a browser's attempts to connect again
        events = job_events.follow(job, last_event_id)
        return StreamingResponse(events, media_type=EVENT_STREAM, headers=NOT_BUFFERED)

    @router.post("/{job_id}/cancel", response_model=state, responses=not_found | ended)
    async def cancel_job(job_id: str) -> Any:
        job = await found(job_id)
        if not await job.acancel():
            raise HTTPException(409, f"job {job_id} has ended already: {(await found(job_id)).status}")
        return shown(await found(job_id))

    if streams:
        _add_stream(router, queue, StreamEvents(queue, shown), found, not_found)
    if logs:
        _add_logs(router, queue, found, not_found)
    return router


def _shown(job: Job[Any], *, errors: bool) -> JobDict:
    state = job.to_dict()
    if not errors and job.errors:
        state["error"] = job.errors[-1].type
    return state


def _add_stream(
    router: APIRouter,
    queue: Queue,
    stream_events: StreamEvents,
    found: Callable[[str], Awaitable[Job[Any]]],
    not_found: dict[int | str, dict[str, Any]],
) -> None:
    queue.require([Feature.STREAMS])
    streamed: dict[int | str, dict[str, Any]] = {
        200: {"content": {EVENT_STREAM: {}}, "description": "An event for each value, and a last one named `end`"},
        204: {"description": "The job has ended, and Last-Event-ID names the last event"},
    }

    @router.get("/{job_id}/stream", response_class=StreamingResponse, responses=not_found | streamed)
    async def stream_job(
        job_id: str,
        after: Annotated[int, Query(ge=0)] = 0,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        job = await found(job_id)
        if await stream_events.has_all(job, last_event_id):
            return Response(status_code=204)
        events = stream_events.follow(job, after_of(last_event_id, after))
        return StreamingResponse(events, media_type=EVENT_STREAM, headers=NOT_BUFFERED)


def _add_logs(
    router: APIRouter,
    queue: Queue,
    found: Callable[[str], Awaitable[Job[Any]]],
    not_found: dict[int | str, dict[str, Any]],
) -> None:
    queue.require([Feature.JOB_LOGS])
    log_events = LogEvents(queue)
    streamed: dict[int | str, dict[str, Any]] = {
        200: {"content": {EVENT_STREAM: {}}, "description": "Lines as they are logged, `run` before those of a run"},
        204: {"description": "The job has ended, and Last-Event-ID names the last event"},
    }

    @router.get("/{job_id}/logs", response_class=PlainTextResponse, responses=not_found)
    async def read_logs(job_id: str, attempt: Annotated[int | None, Query(ge=1)] = None) -> Response:
        job = await found(job_id)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}  # a browser shall take it for text
        return PlainTextResponse(await job.alogs(attempt), headers=headers)

    @router.get("/{job_id}/logs/events", response_class=StreamingResponse, responses=not_found | streamed)
    async def follow_logs(job_id: str, last_event_id: Annotated[str | None, Header()] = None) -> Response:
        job = await found(job_id)
        if await log_events.has_all(job, last_event_id):
            return Response(status_code=204)
        events = log_events.follow(job, last_event_id)
        return StreamingResponse(events, media_type=EVENT_STREAM, headers=NOT_BUFFERED)
