"""A module with tasks and a queue in it, as an application has; the queue's file is never opened."""

from litequeue import default_queue, task

queue = default_queue


@task
def double(n: int) -> int:
    return 2 * n


def _plain() -> None: ...


renamed = task(name="renamed")(_plain)
