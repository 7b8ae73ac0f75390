"""Coroutines on one event loop, at most so many; a loop that does not answer is replaced. Knows no store."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from litequeue.core.clock import SystemClock
from litequeue.core.duration import text
from litequeue.core.greenlets import check_worker
from litequeue.core.logger import log
from litequeue.ipc.process_lock import LOOP_SILENT
from litequeue.worker.executor.context import current
from litequeue.worker.executor.event_loop import EventLoop
from litequeue.worker.executor.execute import aexecute
from litequeue.worker.executor.held_loop import HELD, LOOK_EVERY, Hold
from litequeue.worker.executor.pool import Pool, Setup
from litequeue.worker.executor.stacks import of_task
from litequeue.worker.executor.stoppable import StoppableTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.records import Claimed
    from litequeue.worker.executor.context import Run
    from litequeue.worker.executor.mailbox import Mailbox

ANSWER_WITHIN = 30.0  # seconds after which a loop that does not answer is named, and ours is replaced
SAY_AGAIN = 60.0  # seconds after which a task is named again that holds the loop
MOST_NAMED = 20  # jobs in one line of the log


_Begun = tuple[StoppableTask, int, EventLoop]  # a coroutine that runs, its slot, and the loop it is on


class CoroutinePool(Pool):
    """Coroutines on the application's loop, or on one of our own in a thread.

    A loop of our own is replaced when it has not answered for `ANSWER_WITHIN` seconds, because a coroutine blocks it.
    The coroutines on it keep their slots until they end or are written off.
    """

    tells_again = False  # twice would be another cancel

    def __init__(
        self,
        size: int,
        setup: Setup,
        mailbox: Mailbox,
        *,
        first_slot: int,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(size, setup, mailbox)
        self._slots = list(range(first_slot, first_slot + size))
        self._tasks: dict[Run, _Begun] = {}
        self._given, self._place = loop, str(setup.process_lock.directory)
        self._at: EventLoop | None = None
        self._replaced: list[EventLoop] = []
        self._asked = self._silent = False
        self._watched_at = self._watch_at = 0.0
        self._watch_rests = False  # the worker may sleep longer than until the next look at a loop that works
        self._all_rest = False  # the loops have waited for something at the last looks
        self._said: dict[str, float] = {}  # when a task was named that held a loop

    def prepare(self, *, expected: bool) -> None:
        """Raise `Unsupported` where this process can run no worker, or no coroutines although they are `expected`.

        If they are, no `result()` may block the application's loop from now on.
        """
        check_worker(coroutines=expected)
        if expected and self._given is not None:
            self._running_loop()

    @property
    def busy(self) -> int:
        """How many coroutines are running."""
        return self.size - len(self._slots)

    @property
    def free(self) -> int:
        """How many more jobs could begin at once: none while the loop, which may be the application's, is blocked."""
        self._asked = True  # before the look: so either we see that it has answered, or it sees that we asked
        if self._at is not None and self._at.called:
            return 0
        self._asked = False
        return super().free

    def interrupt(self, run: Run) -> bool:
        """Cancel the coroutine of this run."""
        known = self._tasks.get(run)
        at = self._running_loop() if known is None else known[2]
        at.call(self._cancel, run, known)
        return True

    def ask(self, run: Run) -> None:
        """Cancel the coroutine: it sees nothing by itself."""
        self.interrupt(run)

    def stack(self, run: Run) -> Callable[[], str]:
        """Return what tells where the coroutine of this run is."""
        known = self._tasks.get(run)
        if known is None:
            return str
        task, _, at = known
        return lambda: "" if task.done() else of_task(task, at.ident)

    def _let_go(self, run: Run) -> bool:
        known = self._tasks.pop(run, None)  # by one of two alone, in any thread
        if known is None:
            return False
        run.written_off = True
        known[2].left.add(run)
        self._keep(run)
        self._slots.append(known[1])
        return True

    def _wake(self) -> None:
        """Wake the worker, after the coroutines that end in this iteration of their own loop."""
        at, here = self._at, asyncio.get_running_loop()
        if at is None or at.loop is not here:
            at = next(at for at in self._replaced if at.loop is here)
        if not at.waking:
            at.waking = True
            here.call_soon(self._wake_now, at)

    def stop(self) -> None:
        """End our own loops; coroutines that were written off are cancelled with them."""
        for at in self._loops():
            at.stop()

    def _loops(self) -> list[EventLoop]:
        return [at for at in (self._at, *self._replaced) if at is not None]

    def _wake_now(self, at: EventLoop) -> None:
        at.waking = False
        self._mailbox.wake()

    def _running_loop(self) -> EventLoop:
        if self._at is None:
            self._at = EventLoop(self._given, self._place)
        return self._at

    def _staff(self, wanted: int) -> None:  # noqa: ARG002 - the loop begins as many as it has room for
        at = self._running_loop()
        at.called = True
        at.call(self._answer, at)  # False where the application's loop is closed: its jobs are then released

    def warm(self) -> None:
        """Start a loop, so that `admit` finds one running."""
        self._running_loop()

    def admit(self, job: Claimed, now: float) -> None:
        """Add a job to the backlog from any thread, also where a Ctrl-C may come at any time; the loop begins it."""
        self._put_first(job, now)
        at = self._running_loop()
        at.call(self._fill, at)

    def _answer(self, at: EventLoop) -> None:
        at.called = False
        self._fill(at)
        if self._asked:  # while we stood still, so nothing was claimed
            self._asked = False
            self._mailbox.wake()

    def _fill(self, at: EventLoop) -> None:
        """Begin jobs of the backlog while there is room; not on a loop that was replaced."""
        while at is self._at:
            try:
                slot = self._slots.pop()
            except IndexError:  # not asked before: the loop that takes this one's place may have taken the last
                return
            try:
                job = self.backlog.popleft()
            except IndexError:
                self._slots.append(slot)
                return
            if job.held is not None and self._is_late(job):
                self._slots.append(slot)
                continue
            run = self._begin(job, slot)
            # not by the loop's task factory, which may run it to its end before we know of it
            self._tasks[run] = StoppableTask(self._one(run, slot, at), loop=at.loop, name=job.task_name), slot, at
            if self._watch_rests and self.claim_size.batch == 1:  # it may take long
                self._watch_often(at)

    def _cancel(self, run: Run, known: _Begun | None) -> None:
        known = self._tasks.get(run) if known is None else known
        if known is not None:
            # an iteration of the loop later: a task that is cancelled before its first step never runs, and never ends
            asyncio.get_running_loop().call_soon(known[0].cancel)

    async def _one(self, run: Run, slot: int, at: EventLoop) -> None:
        outcome = await aexecute(run)
        if self._tasks.pop(run, None) is None:  # written off
            at.left.discard(run)
            self._mailbox.note_gone(run.job)
            return
        self._end(run, outcome, slot)
        self._slots.append(slot)
        if self.backlog:
            if at is self._at:
                self._fill(at)
            else:
                self._staff(1)

    # ---- a loop that is held, or does not answer

    def watch_in(self) -> float:
        """Return the seconds until the next look at the loops: infinite while no coroutine runs, or all have waited.

        Then the worker looks when it wakes up anyway, about once a second.
        """
        self._watch_rests = True  # before the look: so either we see a job that begins, or it sees that we may sleep
        if self._at is None or not (self.backlog or self.busy) or self._all_rest:
            return math.inf
        self._watch_rests = False
        return max(0.0, self._watch_at - SystemClock.monotonic())

    def _watch_often(self, at: EventLoop) -> None:
        self._watch_rests = self._all_rest = False
        at.holds.stir()
        self._watch_at = self._watched_at + LOOK_EVERY
        self._mailbox.wake()

    def watch(self) -> None:
        """Log what holds a loop, or has it not answer for too long; then replace it if it is ours. In each cycle."""
        now = SystemClock.monotonic()
        if self._at is None or now < self._watch_at:
            return
        self._watched_at = now
        for at in self._loops():
            hold = at.holds.look()
            if hold is not None:
                self._name_hold(at, hold, now)
        look_in = min(at.holds.look_in for at in self._loops())
        self._watch_at, self._all_rest = now + look_in, look_in > LOOK_EVERY
        self._replaced = [at for at in self._replaced if not at.over]
        silent = max(self._watched(at) for at in self._loops())
        if self._silent is not bool(silent):
            self._silent = bool(silent)
            self._setup.process_lock.note(f"{LOOP_SILENT} {SystemClock.now() - silent:.0f}" if silent else "")

    def _name_hold(self, at: EventLoop, hold: Hold, now: float) -> None:
        """Name what holds the loop, with its stack; each task once a minute."""
        name, what = self._holder(hold.task)
        if now - self._said.get(name, -math.inf) < SAY_AGAIN:
            return
        self._said[name] = now
        log.warning(
            "%s has held %s for more than %s, in which no other coroutine ran: await what it waits for, or run it in a "
            "thread (a task that is a plain function, or asyncio.to_thread)\n%s",
            *(what, _name(at), text(HELD), at.stack()),
        )

    def _holder(self, task: asyncio.Task[Any] | None) -> tuple[str, str]:
        """Return the name of the task of ours, and in words what holds the loop: a job, or what it has started."""
        begun = {id(begun[0]): run for run, begun in list(self._tasks.items())}
        run = begun.get(id(task))
        if run is not None:
            return run.job.task_name, f"{run.job.task_name}[{run.id}]"
        get_context = getattr(task, "get_context", None)  # since Python 3.12
        run = None if get_context is None else get_context().get(current)
        if run is not None:
            return run.job.task_name, f"a task of asyncio that {run.job.task_name}[{run.id}] has started"
        return "", "code that is none of this worker's jobs"

    def _watched(self, at: EventLoop) -> float:
        """Return for how many seconds a logged loop has not answered; 0: it was not logged, or it has ended."""
        if at.over:
            if not at.named:
                at.named = True
                log.warning("%s is closed; this worker runs no coroutines any more", _name(at))
            return 0.0
        silent = at.silence(ask=at.named or bool(self.backlog) or self.busy > 0 or at.called)
        if at.named and not silent:
            at.named = False
            log.warning("%s answers again", _name(at))
        elif not at.named and silent >= ANSWER_WITHIN:
            at.named = True
            self._name_and_replace(at, silent)
        return silent if at.named else 0.0

    def _name_and_replace(self, at: EventLoop, silent: float) -> None:
        runs = [*list(at.left), *(run for run, begun in list(self._tasks.items()) if begun[2] is at)]
        jobs = [f"{run.job.task_name}[{run.id}]" for run in runs]
        stack = at.stack()
        if at is self._at and at.own:
            self._replace(at)
        shown = ", ".join(jobs[:MOST_NAMED]) + (f" and {len(jobs) - MOST_NAMED} more" if len(jobs) > MOST_NAMED else "")
        then = (
            "a new loop runs new jobs; the jobs on the old one end at their time limits"
            if at.own
            else "no coroutine is claimed until it answers"
        )
        log.log(
            logging.ERROR if at.own else logging.WARNING,
            "%s has not answered for %s: a coroutine blocks it; %s; on it: %s\n%s",
            *(_name(at), text(silent), then, shown or "no job", stack),
        )

    def _replace(self, at: EventLoop) -> None:
        self._replaced.append(at)
        self._at = EventLoop(None, self._place)
        at.leave()
        if self.backlog:
            self._staff(len(self.backlog))


def _name(at: EventLoop) -> str:
    return "an event loop of the worker's own" if at.own else "the application's event loop"
