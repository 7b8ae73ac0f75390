"""The workers of this process that are on offer for a dispatch, as the queue's store is told of them."""

import time

from crash.watching import until

SETTLED = 0.05  # seconds: a worker that has just begun to rest may wake once more, for what it missed


class IdleWorkers:
    """Follows what is offered to a store's dispatch, withdrawn, and taken; `accept` takes the place of a worker's."""

    def __init__(self, queue, monkeypatch):
        self._offered, self._dispatch = {}, queue.engine.dispatch
        self.accept = None  # given the worker's own accept(), and what that is given
        self._plain = {name: getattr(self._dispatch, name) for name in ("offer", "withdraw", "take")}
        for name in self._plain:
            monkeypatch.setattr(self._dispatch, name, getattr(self, name))

    def offer(self, worker):
        if self.accept is not None:
            worker.accept = self._instead_of(worker.accept)
        self._offered[worker] = time.monotonic()
        self._plain["offer"](worker)

    def _instead_of(self, own):
        return lambda number, jobs: self.accept(own, number, jobs)

    def withdraw(self, worker):
        self._offered.pop(worker, None)
        self._plain["withdraw"](worker)

    def take(self, task, queue):
        try:
            worker = self._plain["take"](task, queue)
        except BaseException:  # which it may have taken
            self._offered.clear()
            raise
        self._offered.pop(worker, None)
        return worker

    def now(self):
        """Return those on offer."""
        return list(self._offered)

    def at_rest(self):
        """Wait until a worker is on offer and stays so; return those that are."""

        def settled():
            return [worker for worker, since in list(self._offered.items()) if time.monotonic() - since > SETTLED]

        return until(settled, "a worker rests")
