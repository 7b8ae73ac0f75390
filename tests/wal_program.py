"""The queue of the programs that test_wal_replaced.py runs in processes of their own, which need nothing else."""

from litequeue import Queue


def declare(path, driver, **options):
    queue = Queue(path, driver=driver, **options)
    queue.task(name="add")(plus_one)
    return queue


def plus_one(a: int = 0) -> int:
    return a + 1
