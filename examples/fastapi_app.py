"""A web application: requests store jobs, a worker inside runs them, and browsers follow them.

Run: `uvicorn examples.fastapi_app:app` or `python examples/fastapi_app.py`; it needs fastapi and uvicorn.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException

from litequeue import Job, Queue, current_job
from litequeue.integrations.fastapi import Background, background, jobs_router, worker_lifespan

queue = Queue(Path(tempfile.mkdtemp()) / "app.db")  # in your program: Queue("app.db")


@queue.task(retries=3, give_up_on=ValueError)  # another try would not find a title
async def write_report(title: str) -> str:
    if not title.strip():
        raise ValueError("a report has a title")
    for page in range(1, 4):
        await current_job().aprogress(page, total=3, note=f"page {page}")
        await asyncio.sleep(0.02)  # here your program would work
    return f"# {title}"


@queue.task
def send_mail(to: str, subject: str) -> None:
    print(f"mail to {to}: {subject}")


def login(token: Annotated[str | None, Header()] = None) -> None:
    """Let in who has the token: in your program, whoever may see and cancel jobs."""
    if token != "let me in":  # noqa: S105
        raise HTTPException(401, "send the header 'token'")


app = FastAPI(lifespan=worker_lifespan(queue, threads=2))
app.include_router(jobs_router(queue, dependencies=[Depends(login)]), prefix="/jobs")
Jobs = Annotated[Background, Depends(background(queue), scope="function")]


@app.post("/signup")
async def sign_up(email: str, jobs: Jobs) -> dict[str, str]:
    jobs.add_task(send_mail, email, "Welcome!")  # on disk before the response is sent; none if this raises
    jobs.add_task(send_mail.using(delay="1d"), email, "How do you like it?")
    return {"signed up": email}


@app.post("/reports", status_code=202)
async def order_report(title: str) -> Job[str]:
    return await write_report.aenqueue(title)  # the response is the job: its id, status and times


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app)
