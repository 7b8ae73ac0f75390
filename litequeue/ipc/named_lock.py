"""A lock on a name, for all threads, coroutines and processes beside one file. Knows no queue and no job.

The kernel frees it however its holder dies. A thread of ours waits for it in the kernel, so nothing polls.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from litequeue.core.background import Background
from litequeue.core.owner_process import getpid
from litequeue.ipc.file_lock import READY, has_name, try_lock, try_share, unlink, unlock, wait_lock
from litequeue.ipc.process_lock import directory_of, open_shared

PAUSES = (0, 0.001, 0.002)  # seconds between tries: `holder()` of another process takes the lock for some microseconds
SIZE = 512  # bytes of the file: who holds the lock, in words


class Request:
    """One wait for the lock. `wake` is called from another thread once it is granted, or failed with `error`."""

    def __init__(self, holder: str, owner: object, wake: Callable[[], bool]) -> None:
        self.holder = holder
        self.owner = owner
        self.wake = wake  # returns whether somebody is still there to be woken
        self.granted = False
        self.error: BaseException | None = None


class NamedLock:
    """The lock of one name beside one database; one object for each in this process, made by `named_lock`."""

    def __init__(self, database: Path, name: str) -> None:
        self.name = name
        self._database = database
        import hashlib  # names are any text, which a file's name cannot be

        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        self._path = directory_of(database) / f"{digest[:32]}.named"
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Hold nothing: in a child of a fork, what was held is the parent's, and stays so."""
        for descriptor in getattr(self, "_open_here", ()):
            with suppress(OSError):
                os.close(descriptor)  # kept, it would hold the lock beyond the parent's death
        self._open_here: set[int] = set()  # descriptors that are open, whether they have the lock or not
        self._mutex = threading.Lock()
        self._requests: deque[Request] = deque()
        self._descriptor: int | None = None
        self._holding: Request | None = None
        self._asking = False
        self._background = Background("litequeue-lock")
        self._pid = getpid()

    def is_held_by(self, owner: object) -> bool:
        """Whether this thread, or this coroutine's task, holds it already."""
        holding = self._holding
        return self._pid == getpid() and holding is not None and holding.owner == owner

    def holder(self) -> str | None:
        """Say who holds it; None if nobody does."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | READY)
        except OSError:
            return None
        self._open_here.add(descriptor)
        try:
            if try_share(descriptor):  # as others who look may: only who wants the lock is in the way
                return None
            os.lseek(descriptor, 0, os.SEEK_SET)
            return os.read(descriptor, SIZE).rstrip(b"\0 ").decode(errors="replace") or "another process"
        finally:
            self._close(descriptor)

    def ask(self, request: Request, *, wait: bool) -> bool:
        """Take the lock for this request if it is free; return whether it has it. If not, with `wait`, queue it.

        Whatever it raises, and a Ctrl-C may do so anywhere in it: call `withdraw` then.
        """
        if self._pid != getpid():  # a fork of which Python was not told
            self.reset_after_fork()
        with self._mutex:
            if self._holding is None and not self._asking:
                self._holding = request  # first: what is taken from here on is freed with the request
                if self._take():
                    self._grant(request)
                    return True
                self._holding = None
            if wait:
                self._requests.append(request)
                self._start_asking()
            return False

    def withdraw(self, request: Request) -> None:
        """End a request, whether it has the lock or waits for it. May be called again, also amid a first call."""
        with self._mutex:
            if self._holding is request:  # else it waits, or was granted in the parent of this process
                self._free(request)
            with suppress(ValueError):
                self._requests.remove(request)
            self._start_asking()

    def withdraw_later(self, request: Request) -> None:
        """The same by another thread: a finalizer may run anywhere, also in this class."""
        request.owner = None  # at once: it is nobody's who might ask again
        with suppress(RuntimeError):  # the interpreter ends, and its descriptors with it
            self._background.submit(partial(self.withdraw, request))

    def _start_asking(self) -> None:
        if self._requests and self._holding is None and not self._asking:
            self._background.submit(self._wait)
            self._asking = True

    def _wait(self) -> None:
        try:
            while (descriptor := self._opened(_wait_lock)) is None:
                pass  # its last holder had removed it
        except BaseException as error:
            self._fail(error)
            return
        with self._mutex:
            self._asking = False
            while self._requests:
                request = self._requests.popleft()
                self._descriptor, self._holding = descriptor, request
                self._grant(request)
                if request.wake():
                    return
                request.granted = False
            self._holding, self._descriptor = None, None
            self._remove(descriptor)  # none of those that waited is still there
            self._close(descriptor)

    def _fail(self, error: BaseException) -> None:
        with self._mutex:
            self._asking = False
            failed, self._requests = self._requests, deque()
        for request in failed:
            request.error = error
            request.wake()

    def _grant(self, request: Request) -> None:
        request.granted = True
        if self._descriptor is not None:
            with suppress(OSError):  # no space: then it is held by someone unnamed
                os.lseek(self._descriptor, 0, os.SEEK_SET)
                os.write(self._descriptor, request.holder.encode(errors="replace")[:SIZE].ljust(SIZE, b"\0"))

    def _free(self, request: Request) -> None:
        descriptor = self._descriptor
        if descriptor is not None:
            if request.granted:
                self._remove(descriptor)
            unlock(descriptor)
            self._descriptor = None  # before its number may be another file's
            self._close(descriptor)
        request.granted = False
        self._holding = None  # last: an interrupted call is repeated

    def _remove(self, descriptor: int) -> None:
        """Remove the file while its lock is ours: names come and go without end. Not another process's of that name."""
        if os.name != "nt" and has_name(self._path, descriptor):
            unlink(self._path)

    def _close(self, descriptor: int) -> None:
        """Free the lock, also where a child of a fork has the descriptor still, and close it."""
        unlock(descriptor)
        self._open_here.discard(descriptor)
        os.close(descriptor)

    def _take(self) -> bool:
        """Lock the file that has the name now; return whether that could be done at once."""
        while True:
            self._descriptor = open_shared(self._database, self._path.name, SIZE)
            self._open_here.add(self._descriptor)
            got = _try_lock(self._descriptor)
            if got and has_name(self._path, self._descriptor):
                return True
            descriptor, self._descriptor = self._descriptor, None
            self._close(descriptor)
            if not got:
                return False

    def _opened(self, lock: Callable[[int], bool]) -> int | None:
        """Wait for the file that has the name now, in a thread of ours; None if it has lost its name meanwhile."""
        descriptor = open_shared(self._database, self._path.name, SIZE)
        self._open_here.add(descriptor)  # before it may get the lock
        try:
            if lock(descriptor) and has_name(self._path, descriptor):
                return descriptor
        except BaseException:
            self._close(descriptor)
            raise
        self._close(descriptor)
        return None


def _try_lock(descriptor: int) -> bool:
    for pause in PAUSES:
        time.sleep(pause)
        if try_lock(descriptor):
            return True
    return False


def _wait_lock(descriptor: int) -> bool:
    while True:
        try:
            wait_lock(descriptor)
        except OSError:
            if os.name != "nt":
                raise
        else:
            return True  # Windows gives up after ten seconds


_locks: weakref.WeakValueDictionary[tuple[str, str], NamedLock] = weakref.WeakValueDictionary()
_making = threading.Lock()


def named_lock(database: Path, name: str) -> NamedLock:
    """Return this process's object for that lock."""
    where = str(directory_of(database)), name
    with _making:
        found = _locks.get(where)
        if found is None:
            found = _locks[where] = NamedLock(database, name)
        return found


def _after_fork() -> None:
    global _making  # noqa: PLW0603  another thread of the parent may hold it
    _making = threading.Lock()
    for lock in list(_locks.values()):
        lock.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
