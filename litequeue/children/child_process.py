"""One child process, as the worker that started it sees it: started, talked to, killed, and how it ended.

Each child is in a session of its own, so that Ctrl-C in a terminal reaches only this process, and so that what a child
has started is killed with it. It ends by itself when our end of its channel is closed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from litequeue.children.channel import Channel
from litequeue.children.command import child_command
from litequeue.children.messages import LOST
from litequeue.children.output import Output
from litequeue.core.clock import SystemClock
from litequeue.core.signal_name import signal_name
from litequeue.ipc.this_process import resident_memory

if TYPE_CHECKING:
    from litequeue.children.messages import Setup

EXIT_WITHIN = 5.0  # seconds for a child to end by itself when it is not needed any more
EXIT_SEEN = 1.0  # seconds until the end of a process is seen whose files are closed: they are closed first
LOOK_EVERY = 0.25  # seconds between looks whether it lives, where the system does not tell
IS_WINDOWS = sys.platform == "win32"


class Death(NamedTuple):
    """How a child ended. `code`: as in `Popen.returncode`, None: unknown. `peak`: bytes. `output`: its last lines."""

    code: int | None
    peak: int | None
    at_most: bool  # the peak is the parent's own, from which the system begins to count: the child had less
    output: str

    def __str__(self) -> str:
        """Return it in words, without the output."""
        how = "ended, and the system does not tell how"
        if self.code is not None and self.code < 0:
            how = f"was killed by {signal_name(-self.code)}"
            if -self.code == getattr(signal, "SIGKILL", 9):
                how += " (the system does that when memory runs out)"
        elif self.code == LOST:
            how = f"ended with exit code {LOST}, as it does if the job closes descriptors that are not the job's"
        elif self.code is not None:
            how = f"ended with exit code {self.code}"
        if self.peak is None:
            return how
        return f"{how}; it held {'less than' if self.at_most else 'up to'} {self.peak / 1e6:.0f} MB of memory"


class ChildProcess:
    """A child that is starting or running. Raises `OSError` where the system gives no process, memory or descriptor."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        try:
            with theirs:
                self._process = _spawned(theirs)
        except BaseException:
            ours.close()
            raise
        self._floor = resident_memory() or 0
        self.pid: int = self._process.pid
        self.started: float = SystemClock.monotonic()
        self.jobs: int = 0
        self._ending = threading.Lock()
        self._reaped = False
        self._end: tuple[int | None, int | None] | None = None  # its code and peak, where it was taken early
        self._sentinel = _sentinel(self._process)
        self.channel: Channel = Channel(ours)
        pipes = cast("IO[bytes]", self._process.stdout), cast("IO[bytes]", self._process.stderr)
        self.output: Output = Output(*pipes)

    def begin(self, setup: Setup) -> None:
        """Tell it what it needs first."""
        self.output.follow()  # raises `RuntimeError` where there are no threads
        with suppress(OSError):  # it has died already, which the first wait for its words shows
            self.channel.send(setup)

    def next(self, seconds: float | None = None) -> Any:
        """Return the next message; None: it has ended, or closed its end, or so many seconds are over."""
        until = None if seconds is None else SystemClock.monotonic() + seconds
        while True:
            left = None if until is None else max(0.0, until - SystemClock.monotonic())
            ready = self._wait(left)
            try:
                if self.channel.connection in ready or (self.has_ended and self.channel.waits(0)):
                    return self.channel.receive()
            except Exception:  # the end of the channel, or what is no message of ours
                return None
            if self.has_ended or left == 0.0:
                return None

    def _wait(self, seconds: float | None) -> list[Any]:
        watched: list[Any] = [self.channel.connection]
        if self._sentinel is not None:
            return wait([*watched, self._sentinel], seconds)
        return wait(watched, LOOK_EVERY if seconds is None else min(seconds, LOOK_EVERY))

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone; its end is not yet taken."""
        with self._ending:
            if self._reaped or self._end is not None:
                return True
            if self._sentinel is not None:
                return bool(wait([self._sentinel], 0))
            self._end = _waited_for(self._process, at_once=True)
            if self._end is None:
                return False
            with suppress(OSError):  # now: soon its number may be another's
                os.killpg(self.pid, signal.SIGKILL)
            return True

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends within so many seconds: its descriptors are closed a moment before it is gone."""
        ends_at = SystemClock.monotonic() + seconds
        while not self.has_ended and (left := ends_at - SystemClock.monotonic()) > 0:
            if self._sentinel is None:
                time.sleep(min(left, LOOK_EVERY / 10))
            else:
                wait([self._sentinel], left)
        return self.has_ended

    def kill(self) -> None:
        """Kill it, and what it has started; from any thread."""
        with self._ending:  # once its end is taken, its number may be another's
            if self._reaped or self._end is not None:
                return
            if IS_WINDOWS:
                self._process.kill()
                return
            # not by Popen's own method, which takes the end of a process that has died, and drops its peak memory
            for kill in (os.killpg, os.kill):  # the second for one that has left its group
                with suppress(OSError):
                    kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Let it end by itself, as it does when its channel is closed; kill it if it does not."""
        self.channel.close()
        self.ends_within(EXIT_WITHIN)
        self.take_end()

    def take_end(self) -> Death:
        """Kill what is left of it, wait for its end, and return that."""
        self.kill()
        with suppress(OSError):
            self.channel.close()
        code, peak = self._end or _waited_for(self._process) or (None, None)
        with self._ending:
            self._reaped = True
            if isinstance(self._sentinel, int) and not IS_WINDOWS:
                os.close(self._sentinel)
                self._sentinel = None
        output = self.output.last()
        return Death(code, peak if peak is None else max(peak, 0), peak is not None and peak <= self._floor, output)


def _spawned(theirs: Any) -> subprocess.Popen[bytes]:
    kept: dict[str, Any] = {"pass_fds": [theirs.fileno()], "start_new_session": True}
    if IS_WINDOWS:
        os.set_handle_inheritable(theirs.fileno(), True)  # type: ignore[attr-defined,unused-ignore]
        startup: Any = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [theirs.fileno()]})  # type: ignore[attr-defined,unused-ignore]
        kept = {"startupinfo": startup, "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    kept |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    process: subprocess.Popen[bytes] = subprocess.Popen(child_command(theirs.fileno()), **kept)  # noqa: S603  our own
    return process


def _sentinel(process: Any) -> Any:
    """Return what `wait` finds ready once the process has ended; None: the system has none."""
    if IS_WINDOWS:
        return int(process._handle)  # noqa: SLF001  as multiprocessing has it of its own processes
    try:
        return os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return None


def _waited_for(process: subprocess.Popen[bytes], *, at_once: bool = False) -> tuple[int | None, int | None] | None:
    """Wait for the end of the process; return its code and the most memory that it had. `at_once`: or None."""
    if not hasattr(os, "wait4") or process.returncode is not None:
        code = process.poll() if at_once else process.wait()
        return None if code is None else (code, None)
    try:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG if at_once else 0)
        if not ended:
            return None
    except ChildProcessError:  # the application waits for every process, or ignores SIGCHLD
        process.returncode = 0  # so that nobody waits for its number
        return None, None
    process.returncode = code = os.waitstatus_to_exitcode(status)
    return code, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
