"""A module with a task, for pickles."""

from litequeue import Queue

queue = Queue()


@queue.task
def double(x):
    return 2 * x
