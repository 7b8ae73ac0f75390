"""A module with a task in it, as an application has; its queue's file is never opened."""

from litequeue import task


@task
def double(n: int) -> int:
    return 2 * n
