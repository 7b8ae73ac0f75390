"""Keep a number of worker processes running: start, replace, stop. Knows commands to run, and no queue.

Each child is in a session of its own, so a terminal's Ctrl-C reaches only the supervisor. Its stdin is a socket of the
supervisor: over it the child reports that it has started, and is told to stop; it ends by itself when the other end is
closed. Signals are not used: a service manager sends its own to each process, and one stop would count twice.
"""

from __future__ import annotations

import itertools
import math
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from litequeue.core.clock import Clock, SystemClock
from litequeue.core.duration import text
from litequeue.core.logger import aside, log
from litequeue.core.signal_name import signal_name
from litequeue.ipc.service_manager import ServiceManager
from litequeue.worker.orphans import inherits_orphans, reap_orphans
from litequeue.worker.signals import HANGUP, STOPS, Stops
from litequeue.worker.tether import ALIVE, READY, STACKS, STOP, STOP_NOW, WINDOWS
from litequeue.worker.watchdog import Manager

RELEASED = 75  # EX_TEMPFAIL of sysexits.h: some jobs were released
AGAIN = 76  # of a worker process that makes room for a new one: after --max-jobs, say, or a change of the code
FAILED_STARTS = 3  # in a row, after which the supervisor gives up
LONG_LIFE = 10.0  # seconds after which a death is no sign of the next
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before another child takes the place of one that died early
LAST_WORD = 0.5  # seconds between SIGTERM and SIGKILL for a child that has not ended
_ANSWERS = (
    "finishing running jobs; send it again, a second from now, to release them",
    "releasing running jobs now",
    "killing the workers",
)
STACKS_SIGNAL: int | None = getattr(signal, "SIGUSR1", None)


class Event(NamedTuple):
    """An event for the supervisor."""

    kind: Literal["ready", "died", "start", "signal"]
    child: Child | None = None
    number: int = 0
    at: float = 0.0


@dataclass(eq=False)
class Child:
    """One worker process."""

    process: subprocess.Popen[bytes]
    channel: Any  # a socket; on Windows the pipe of its stdin
    started: float
    ready: bool = False
    alive_at: float | None = None  # when its loop was last known to go on; None: it has claimed nothing yet
    told_start: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def tell(self, word: bytes) -> None:
        """Send STOP or STOP_NOW; a child that has ended or does not read any more ignores it."""
        with suppress(OSError, ValueError):
            if isinstance(self.channel, socket.socket):
                self.channel.sendall(word)
            else:
                self.channel.write(word)
                self.channel.flush()

    def let_go(self) -> None:
        """Close our end, which tells a running child to finish and end."""
        with suppress(OSError):
            if isinstance(self.channel, socket.socket):
                self.channel.shutdown(socket.SHUT_RDWR)  # a thread may be reading it
            self.channel.close()


class Supervisor:
    """Runs `processes` children of one command; `run()` blocks and returns the exit code.

    `command` gets whether it starts the first child, which alone logs what it serves. The others are started when
    the first has registered, so that a mistake shows once. With `until_idle` a child that is done is not replaced.
    `patience`: seconds from the first stop until children that still run are killed. `manager`: is told that all of
    them claim, and then that they go on, for as long as each does.
    """

    def __init__(
        self,
        command: Callable[[bool], Sequence[str]],
        processes: int,
        *,
        until_idle: bool = False,
        patience: float = math.inf,
        manager: ServiceManager | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.command: Callable[[bool], Sequence[str]] = command
        self.processes: int = processes
        self.until_idle: bool = until_idle
        self.patience: float = patience
        self.clock: Clock = SystemClock() if clock is None else clock
        self.children: list[Child] = []
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._pauses: dict[int, threading.Timer] = {}
        self._numbers = itertools.count()
        self._stops = Stops()
        self._signals = 0
        self._kill_at = math.inf
        self._last_word = False
        self._in_error = False  # the last worker to end ended with an error
        self._stopping = self._any_ready = False
        self._failed_starts = self._early_deaths = 0
        self._code = 0
        self._manager = None if manager is None else Manager(manager)
        self._told = math.inf  # when the manager was last told; inf: it was not

    def run(self) -> int:
        """Supervise until every child has ended for good: 0, 75 if one released jobs, 1 if they cannot start."""
        with ExitStack() as stack:
            stack.callback(self._let_all_go)
            stack.enter_context(aside())
            for number in STOPS:
                if number not in HANGUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                    stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
            if STACKS_SIGNAL is not None:
                stack.callback(signal.signal, STACKS_SIGNAL, signal.signal(STACKS_SIGNAL, self._on_signal))
            reaps = inherits_orphans()
            self._start()
            while self.children or self._pauses:
                with suppress(queue.Empty):
                    # Windows tells of signals only between waits
                    left = min(self._kill_at - self.clock.monotonic(), self.alive_every)
                    self._handle(self._events.get(timeout=min(max(left, 0.0), 1.0)))
                self._kill_the_late()
                self._tell_manager()
                if reaps:
                    reap_orphans({child.process.pid for child in self.children})
        return self._code

    # ---- the service manager

    def _tell_manager(self) -> None:
        """Tell it that the workers claim, once all do; then that they go on, as long as none hangs."""
        if self._manager is None:
            return
        now, every = self.clock.monotonic(), self._manager.every
        claiming = [child.alive_at for child in self.children if child.alive_at is not None]
        status = self._ending if self._stopping else f"{len(claiming)} of {self.processes} worker processes claim"
        if self._told == math.inf:
            if len(claiming) == self.processes and not self._stopping:
                self._told = now
                self._manager.claims(status)
        elif now - self._told >= every and (self._stopping or all(now - alive < every for alive in claiming)):
            self._told = now
            (self._manager.stops if self._stopping else self._manager.goes_on)(status)

    @property
    def _ending(self) -> str:
        count = len(self.children)
        return "1 worker process is ending" if count == 1 else f"{count} worker processes are ending"

    # ---- signals: the handler only leaves a note

    @property
    def alive_every(self) -> float:
        """How often a child is to say that its loop goes on, in seconds: more often than the manager is told."""
        watched = self._manager is not None and self._manager.manager.watchdog
        return self._manager.every / 2 if self._manager is not None and watched else math.inf

    def _on_signal(self, number: int, _frame: object) -> None:
        self._events.put(Event("signal", number=number, at=SystemClock.monotonic()))

    def _on_stop(self, number: int, at: float) -> None:
        """First stop: finish; second: release now; third: kill. Signals within a moment of a stop belong to it."""
        times = self._stops.tell(at)
        if times <= self._signals:
            return
        self._signals = times
        log.warning("%s: %s", signal_name(number), _ANSWERS[min(times, 3) - 1])
        self._begin_to_stop(STOP if times == 1 else STOP_NOW)
        if times >= 3:
            self._kill_at = self.clock.monotonic()

    def _begin_to_stop(self, word: bytes) -> None:
        if self._manager is not None and not self._stopping:
            self._told = self.clock.monotonic()
            self._manager.stops(self._ending)
        self._stopping = True
        if self._pauses and self._in_error:  # what ended them, such as a damaged file, is not over
            self._code = 1
        self._kill_at = min(self._kill_at, self.clock.monotonic() + self.patience)
        self._end_pauses()
        for child in self.children:
            child.tell(word)

    def _kill_the_late(self) -> None:
        """SIGTERM first: a child that did not read the stop then notes it, so that no job counts a death."""
        if self.clock.monotonic() < self._kill_at:
            return
        if self._last_word:
            for child in self.children:
                child.process.kill()
            self._kill_at = math.inf
            return
        if self._signals < 3:
            late = "%d worker processes have not ended within %s; killing them"
            log.error(late, len(self.children), text(self.patience))
        for child in self.children:
            child.process.terminate()
        self._kill_at, self._last_word = self.clock.monotonic() + LAST_WORD, True

    # ---- events

    def _handle(self, event: Event) -> None:
        child = event.child
        match event.kind:
            case "signal" if event.number == STACKS_SIGNAL:
                log.warning("SIGUSR1: each of %d worker processes logs the stacks of its jobs", len(self.children))
                for each in self.children:
                    each.tell(STACKS)
            case "signal":
                self._on_stop(event.number, event.at)
            case "start":
                if self._pauses.pop(event.number, None) is not None:
                    self._start()
            case "ready" if child is not None:
                self._on_ready(child)
            case "died" if child is not None:
                self._on_death(child)

    def _on_ready(self, child: Child) -> None:
        child.ready = True
        self._failed_starts = 0
        if not self._any_ready:
            self._any_ready = True
            for _ in range(0 if self._stopping else self.processes - 1):
                self._start()

    def _on_death(self, child: Child) -> None:
        child.let_go()
        self.children.remove(child)
        code = child.process.returncode
        if code == RELEASED or (code < 0 and child.ready and self._stopping):
            self._code = self._code or RELEASED
        self._in_error = code > 0 and code not in (RELEASED, AGAIN)
        if self._stopping:
            if self._in_error:
                self._code = 1
            return
        if self.until_idle and code in (0, RELEASED):
            return
        if code == AGAIN:
            log.info("worker process %d has ended to make room for a new one", child.process.pid)
            self._start()
            return
        self._replace(child, code)

    def _replace(self, child: Child, code: int) -> None:
        how = f"was killed by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        if not child.ready:
            self._failed_starts += 1
            wrong = self._failed_starts >= FAILED_STARTS or (not self._any_ready and code > 0)
            if wrong:
                log.error("worker process %d %s before it started; stopping", child.process.pid, how)
                self._code = 2 if code == 2 and not self._any_ready else 1
                self._begin_to_stop(STOP)
                return
        lived = self.clock.monotonic() - child.started
        self._early_deaths = self._early_deaths + 1 if lived < LONG_LIFE else 0
        doublings = self._early_deaths - 2  # the first early death is replaced at once
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**doublings) if doublings >= 0 else 0.0
        after = f" in {text(pause)}" if pause else ""
        log.warning("worker process %d %s; starting another%s", child.process.pid, how, after)
        if pause:
            self._start_later(pause)
        else:
            self._start()

    # ---- starting

    def _start(self) -> None:
        command = list(self.command(not self._any_ready))
        if WINDOWS:
            flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
            process = subprocess.Popen(command, stdin=subprocess.PIPE, creationflags=flags)  # noqa: S603  our own
            channel: Any = process.stdin
        else:
            channel, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(command, stdin=theirs.fileno(), start_new_session=True)  # noqa: S603  our own
        child = Child(process, channel, self.clock.monotonic())
        self.children.append(child)
        threading.Thread(target=self._listen, args=(child,), daemon=True).start()
        threading.Thread(target=self._watch_end, args=(child,), daemon=True).start()

    def _start_later(self, pause: float) -> None:
        number = next(self._numbers)
        timer = self._pauses[number] = threading.Timer(pause, self._events.put, (Event("start", number=number),))
        timer.daemon = True
        timer.start()

    def _end_pauses(self) -> None:
        for timer in self._pauses.values():
            timer.cancel()
        self._pauses.clear()

    def _watch_end(self, child: Child) -> None:
        child.process.wait()
        child.left.set()
        child.told_start.wait(1.0)  # a child that started and ended is reported in that order
        self._events.put(Event("died", child))

    def _listen(self, child: Child) -> None:
        """Hear that a child has started, and then that its loop goes on, until it ends."""
        if WINDOWS:  # its pipe goes one way only: a child that has lived for a while has started
            if not child.left.wait(LONG_LIFE / 2):
                self._events.put(Event("ready", child))
        else:
            with suppress(OSError):
                while words := child.channel.recv(64):
                    if READY in words:
                        self._events.put(Event("ready", child))
                        child.told_start.set()
                    if ALIVE in words:
                        child.alive_at = self.clock.monotonic()
        child.told_start.set()

    def _let_all_go(self) -> None:
        self._end_pauses()
        for child in self.children:
            child.let_go()

    def __repr__(self) -> str:
        return f"<Supervisor children={len(self.children)}/{self.processes}>"
