"""A web page that shows text as a model writes it, and goes on where it was after a reload or a lost connection.

Run: `uvicorn examples.token_stream:app` or `python examples/token_stream.py`; it needs fastapi and uvicorn. The model
is made up: it says one word after the other.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from litequeue import Job, Queue, current_job
from litequeue.integrations.fastapi import jobs_router, worker_lifespan

queue = Queue(Path(tempfile.mkdtemp()) / "app.db")  # in your program: Queue("app.db")


async def model(prompt: str) -> AsyncIterator[str]:
    """Say something about the prompt, a token at a time."""
    for token in f"You said: {prompt}. That is worth a thought, and here it comes to an end.".split():
        await asyncio.sleep(0.02)  # here your program would wait for the model
        yield f"{token} "


@queue.task
async def answer(prompt: str) -> str:
    text = ""
    async for token in model(prompt):
        current_job().emit(token)  # any process that follows the job has it within some 20 ms
        text += token
    return text.strip()


app = FastAPI(lifespan=worker_lifespan(queue))
# dependencies=[] lets everybody in: in your program, whoever may read the answer
app.include_router(jobs_router(queue, dependencies=[], streams=True), prefix="/jobs")


@app.post("/ask", status_code=202)
async def ask(prompt: str) -> Job[str]:
    return await answer.aenqueue(prompt)


PAGE = """<!doctype html>
<title>Tokens</title>
<form><input name="prompt" value="hello"><button>ask</button></form>
<p id="text"></p>
<script>
const text = document.getElementById("text");
let events;
function follow(id) {  // from the first token on: a page that is loaded again has them all, a cut connection the next
  events?.close();
  text.textContent = "";
  events = new EventSource(`/jobs/${id}/stream`);
  events.addEventListener("value", (event) => { text.textContent += JSON.parse(event.data); });
  events.addEventListener("attempt", () => { text.textContent = ""; });  // another try begins from the start
  events.addEventListener("end", () => events.close());
}
document.querySelector("form").onsubmit = async (event) => {
  event.preventDefault();
  const prompt = new URLSearchParams(new FormData(event.target));
  const job = await (await fetch(`/ask?${prompt}`, { method: "POST" })).json();
  location.hash = job.id;
  follow(job.id);
};
if (location.hash) follow(location.hash.slice(1));
</script>
"""


@app.get("/")
def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app)
