"""An asyncio program with a worker on its event loop: coroutines run there, plain functions in threads.

Run: `python examples/asyncio_app.py`.
"""

import asyncio
import tempfile
from pathlib import Path

from litequeue import Queue

queue = Queue(Path(tempfile.mkdtemp()) / "app.db")  # in your program: Queue("app.db")


@queue.task(retries=3, timeout="30s")
async def fetch(city: str) -> dict[str, object]:
    await asyncio.sleep(0.05)  # here your program would await a service
    return {"city": city, "letters": len(city)}


@queue.task
def compress(text: str) -> int:
    return len(text.encode()) // 2


async def main() -> None:
    async with queue.worker():
        job = await fetch.aenqueue("Lisbon")
        print("one:", await job)

        jobs = await fetch.aenqueue_many([("Oslo",), ("Quito",), ("Bern",)])
        print("many:", [found["city"] for found in await asyncio.gather(*jobs)])

        packed = await compress.aenqueue("a plain function runs in a thread")
        print("with a limit:", await packed.aresult(timeout=10))


if __name__ == "__main__":
    asyncio.run(main())
