"""The queue of scripts, behind `from litequeue import task`."""

from __future__ import annotations

import os

from litequeue.core.interruptible import interruptible
from litequeue.queue import Queue


@interruptible
class DefaultQueue(Queue):
    """The queue of scripts, at $LITEQUEUE_PATH or ./litequeue.db; its file is opened when it is first used."""

    def _default_path(self) -> str:
        return os.environ.get("LITEQUEUE_PATH") or super()._default_path()


default_queue: DefaultQueue = DefaultQueue()
task = default_queue.task
