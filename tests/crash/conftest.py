"""A queue and worker processes on it, for tests that end some of them."""

import pytest

from crash.program import declare, start
from crash.watching import until


@pytest.fixture
def queue(database):
    with declare(database) as queue:
        yield queue


@pytest.fixture
def launch(queue):
    """Start worker processes, and end those that are left at the end."""
    processes = []

    def go(*settings):
        living = len(queue.engine.workers.living())
        process = start(queue.path, *settings)
        processes.append(process)
        until(lambda: len(queue.engine.workers.living()) > living, "a worker registers")
        return process

    yield go
    for process in processes:
        process.kill()
        process.communicate()
