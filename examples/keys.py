"""Keys: the same job is not stored twice. Four ways to define "the same" and what happens then.

Run: `python examples/keys.py`.
"""

import tempfile
from pathlib import Path

from litequeue import KeyConflict, Queue

queue = Queue(Path(tempfile.mkdtemp()) / "app.db")  # in your program: Queue("app.db")


@queue.task
def charge(order: int, cents: int) -> str:
    return f"order {order}: {cents} cents"


@queue.task
def index(document: str, version: int) -> str:
    return f"{document} version {version}"


@queue.task(unique="{account}")  # one unfinished job an account; callers need not think of it
def synchronise(account: str) -> str:
    return account


def main() -> None:
    # A key makes a repeated request harmless: the existing job is returned, even after its end.
    order = charge.using(key="order-7")
    print("same job:", order.enqueue(7, 990) == order.enqueue(7, 990))
    try:
        order.enqueue(7, 10)
    except KeyConflict as conflict:
        print("other arguments: refused, job", conflict.job_id, "has the key")

    # Or raise an error if the job exists.
    try:
        order.using(on_conflict="raise").enqueue(7, 990)
    except KeyConflict:
        print("on_conflict=raise: refused")

    # Debounce: a later call moves the waiting job, with new arguments.
    soon = index.using(key="readme", key_scope="queued", on_conflict="replace", delay="0.2s")
    jobs = [soon.enqueue("readme", version) for version in (1, 2, 3)]
    with queue.worker():
        print("debounced:", {job.result(timeout=10) for job in jobs})

    # The scope says how long the job holds the key: while it is stored, is unfinished, or has not begun.
    first, second = synchronise.enqueue("ada"), synchronise.enqueue("ada")
    print("while it is unfinished, one:", first == second)
    queue.worker().run(until_idle=True)
    print("once it has ended, another:", first != synchronise.enqueue("ada"))


if __name__ == "__main__":
    main()
