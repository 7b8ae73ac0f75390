"""The tasks of the program: each ends, or dies, in a way of its own. Imported by its child processes too."""

import asyncio
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path

from litequeue import Queue, cron, current_job, every

queue = Queue(os.environ["SHOP_DB"], driver=os.environ.get("SHOP_DRIVER", "apsw"))


@queue.task
def resize(width: int) -> int:
    return width // 2


@queue.task
async def fetch(width: int) -> int:
    await asyncio.sleep(0)
    return width + 1


@queue.task(process=True)
def shrink(width: int) -> list[object]:
    print("shrinking", file=sys.stderr)
    current_job().progress(1, 1)
    return [width // 4, os.getpid(), sys.argv[1:]]


@queue.task(process=True)
async def crop(width: int) -> list[int]:
    await asyncio.sleep(0)
    return [width - 1, os.getpid()]


@queue.task(process=True, timeout="1s")
def match() -> None:
    """Holds the interpreter in C code for years."""
    re.match(r"(a+)+$", "a" * 60 + "b")


@queue.task(process=True)
def crash() -> None:
    os.abort()


@queue.task(process=True)
def pooled(numbers: list[int]) -> list[int]:
    """Starts processes of its own, as the program may: PyInstaller's hook of multiprocessing must have run."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(abs, numbers)


@queue.task(process=True)
def rest(begun: str) -> None:
    Path(begun).write_text(str(os.getpid()))
    time.sleep(600)


@queue.task(schedule=cron("30 2 * * *", tz="Europe/Paris"))
def clean() -> None: ...


@queue.task(schedule=every("1s"))
def look() -> int:
    return os.getpid()
