"""A web application: one request enqueues a job and returns at once, another returns its result; a worker runs inside.

Run: `pip install fastapi uvicorn`, then `uvicorn examples.fastapi_app:app` or `python examples/fastapi_app.py`.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException

from litequeue import JobNotFound, Queue, Status

queue = Queue(Path(tempfile.mkdtemp()) / "app.db")  # in your program: Queue("app.db")


@queue.task(retries=3, give_up_on=ValueError)  # another try would not find a title
async def write_report(title: str) -> str:
    if not title.strip():
        raise ValueError("a report has a title")
    await asyncio.sleep(0.05)  # here your program would work
    return f"# {title}"


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Run a worker as long as the application; at the end it finishes what runs."""
    async with queue.worker():
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/reports", status_code=202)
async def order_report(title: str) -> dict[str, str]:
    job = await write_report.aenqueue(title)
    return {"id": job.id}


@app.get("/reports/{job_id}")
async def read_report(job_id: str) -> dict[str, str]:
    try:
        job = await queue.ajob(job_id)
    except JobNotFound:
        raise HTTPException(404, "no such report") from None
    if job.status is Status.FAILED:
        return {"status": job.status, "error": job.errors[-1].message}
    if job.status is not Status.SUCCEEDED:
        return {"status": job.status}
    return {"status": job.status, "report": await job}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app)
