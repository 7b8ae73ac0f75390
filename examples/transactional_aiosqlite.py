"""Jobs that commit with your own rows, in asyncio: in a transaction of the queue, or on a connection of your own.

Run: `python examples/transactional_aiosqlite.py`.
"""

import asyncio
import tempfile
from pathlib import Path

import aiosqlite

from litequeue import Queue

path = Path(tempfile.mkdtemp()) / "shop.db"
queue = Queue(path, driver="sqlite3")


@queue.task
async def ship(order: str) -> str:
    return f"{order} is on its way"


async def order_simply(order: str) -> str:
    """Let the queue open the transaction; it yields an aiosqlite connection."""
    async with queue.atransaction() as db:
        await db.execute("INSERT INTO orders VALUES (?)", (order,))
        job = await ship.aenqueue(order)
    return job.id


async def order_on(db: aiosqlite.Connection, order: str) -> str:
    """Join the transaction of a connection that the program already has."""
    await db.execute("INSERT INTO orders VALUES (?)", (order,))
    job = await ship.using(within=db).aenqueue(order)
    await db.commit()
    return job.id


async def order_unpaid(order: str) -> None:
    """An error in the block takes back the row and the job."""
    async with queue.atransaction() as db:
        await db.execute("INSERT INTO orders VALUES (?)", (order,))
        await ship.aenqueue(order)
        raise RuntimeError("the card was declined")


async def main() -> None:
    async with aiosqlite.connect(path) as db, queue.worker():
        await db.execute("CREATE TABLE orders (name TEXT)")
        for job_id in (await order_simply("tea"), await order_on(db, "honey")):
            job = await queue.ajob(job_id)
            print(await job.aresult(timeout=10))
        try:
            await order_unpaid("saffron")
        except RuntimeError as error:
            print(f"{error}: {len(await queue.ajobs())} jobs in the file")


if __name__ == "__main__":
    asyncio.run(main())
