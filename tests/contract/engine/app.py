"""The tasks of the contract suite, the same on every engine: `declare(queue)` makes them tasks of one queue."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

from litequeue import GiveUp, Retry, Snooze, current_job


@dataclass
class Point:
    x: int
    y: int = 0


class Odd(Exception):
    """An error of the application's own."""


def add(a: int, b: int = 1) -> int:
    return a + b


async def aadd(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


def echo(value):
    return value


def point(at: Point, when: date, who: UUID) -> tuple[Point, date, UUID]:
    return at, when + timedelta(days=1), who


def login(user: str, password: str) -> str:
    return f"{user}:{len(password)}"


def note(text: str) -> None:
    """Leave a note of the order in which jobs ran, for tests in the worker's process."""
    notes.append(text)


def fail(message: str = "no") -> None:
    raise Odd(message)


async def afail(message: str = "no") -> None:
    raise Odd(message)


def flaky(failures: int) -> int:
    """Fail so many times, then return the number of the run."""
    run = current_job().attempt
    if run <= failures:
        raise Odd(f"run {run}")
    return run


def ask_again(times: int) -> int:
    run = current_job().tries
    if run <= times:
        raise Retry(f"run {run}", delay=0.01)
    return run


def snooze(times: int) -> int:
    run = current_job().attempt
    if run <= times:
        raise Snooze(0.01)
    return run


def give_up() -> None:
    raise GiveUp("enough")


def leave() -> None:
    raise SystemExit(3)


async def aleave() -> None:
    raise SystemExit(3)


def odd_result() -> object:
    return object()


def spin() -> None:
    while True:
        time.sleep(0.001)


async def sleep(seconds: float = 60) -> None:
    await asyncio.sleep(seconds)


def until_cancelled() -> str:
    started.append(current_job().id)
    while not current_job().cancelled:
        time.sleep(0.001)
    return "told"


async def asleep() -> None:
    started.append(current_job().id)
    await asyncio.sleep(60)


def identity() -> list:
    job = current_job()
    return [job.id, job.attempt, job.key, job.idempotency_key]


def through(gate: str) -> int:
    """Wait until that file is there; return the number of the run."""
    while not Path(gate).exists():
        time.sleep(0.005)
    return current_job().attempt


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def complete() -> str:
    with current_job().completing("in the block"):
        pass
    return "not stored"


notes: list[str] = []
started: list[str] = []

FUNCTIONS = (
    *(add, aadd, echo, point, note, fail, afail, odd_result, until_cancelled, asleep, identity, complete),
    *(give_up, leave, aleave, through, die),
)


def declare(queue):
    """Declare them all on the queue; returns them by name."""
    tasks = {function.__name__: queue.task(function) for function in FUNCTIONS}
    tasks |= {
        "login": queue.task(mask=["password"])(login),
        "flaky": queue.task(retries=3, backoff=0.01)(flaky),
        "ask_again": queue.task(retries=3)(ask_again),
        "snooze": queue.task(snooze),
        "spin": queue.task(timeout=0.1)(spin),
        "sleep": queue.task(timeout=0.1)(sleep),
    }
    return SimpleNamespace(**tasks)
