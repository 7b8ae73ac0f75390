"""Tell which processes are alive, by a kernel lock, and what dead ones were doing. Knows no store, job or clock.

The kernel frees a lock however its owner dies; the notes of what ran are shared memory, which the page cache outlives.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import stat
import sys
import threading
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from litequeue.core.owner_process import getpid
from litequeue.ipc.file_lock import BINARY, READY, has_name, locked_file, try_lock, unlink
from litequeue.ipc.high_descriptor import duplicated_high
from litequeue.ipc.permissions import give_open_file_to_users_of, is_shared, make_folder

RECORD = 48  # bytes; the run, two numbers of any size, spaces, and a newline at the end: proof that it is whole
# Beyond the records: a byte with which a stop is noted, and behind it what `signal_descriptor` is for. The numbers of
# SIGHUP, SIGINT and SIGTERM; no record has such a byte in it.
TAIL = RECORD
TOLD, STOP_NUMBERS = b"\x0f", (b"\x01", b"\x02", b"\x0f")
LARGEST = 1 << 24  # bytes to read of a file, which may be anybody's
EMPTY, SPACE = bytes(RECORD), ord(" ")
KEPT = 4_000  # runs that have ended and are not settled: of tiny ones, what one transaction settles and the next claims
ANY = "*"  # noted as a run: those that have ended are more than can be noted
NOTE = b"!"  # what a record begins with that tells of no run
LOOP_SILENT = "loop"  # a note: an event loop has not answered since that second
_TOKEN = re.compile(r"[\w-]{1,64}", re.ASCII)
BESIDE = "-litequeue"  # what the folder's name adds to the file's


def directory_of(database: Path) -> Path:
    """Return the directory beside the database, which may not exist yet; links are followed."""
    return Path(os.path.realpath(database) + BESIDE)


def open_directory(database: Path) -> Path:
    """Make the directory beside the database, for users who may write the database; return it."""
    directory = directory_of(database)
    make_folder(directory, database)
    return directory


def open_shared(database: Path, name: str, size: int) -> int:
    """Open a file of at least that many bytes in the directory beside the database, for memory that processes share."""
    directory = open_directory(database)
    try:
        descriptor = os.open(directory / name, os.O_RDWR | READY)
    except FileNotFoundError:
        descriptor = _made_shared(directory, directory / name)
    try:
        there = os.fstat(descriptor).st_size
        if there < size:
            # not by truncate(): the first touch of a hole on a full disk would kill us by SIGBUS
            os.lseek(descriptor, there, os.SEEK_SET)
            os.write(descriptor, bytes(size - there))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _made_shared(directory: Path, path: Path) -> int:
    """Make the file; if several users may use it, it gets its name only once it has its permissions."""
    if not is_shared(directory):
        return os.open(path, os.O_RDWR | os.O_CREAT | READY, 0o600)
    unnamed = path.with_name(f"{path.name}-{os.urandom(8).hex()}")
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | READY, 0o600)
    try:
        give_open_file_to_users_of(directory, descriptor)
        path.hardlink_to(unnamed)
    except FileExistsError:  # another process was faster
        os.close(descriptor)
        return os.open(path, os.O_RDWR | READY)
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        unlink(unnamed)
    return descriptor


class ProcessLock:
    """This process's lock: held as long as the process lives, with notes of the runs that it is executing.

    `slots` is how many runs can be executed at once. Beside them `KEPT` runs can be noted that have ended.
    """

    def __init__(self, directory: Path, token: str, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"slots must be positive, got {slots}")
        self.token = token
        self.directory: Path = directory
        self._path = directory / f"{token}.lock"
        # the last record is for `note`, and the tail behind it for a stop
        self._tail = (slots + KEPT + 2) * RECORD
        *self._places, self._note = (slice(at, at + RECORD) for at in range(0, (slots + 2) * RECORD, RECORD))
        self._slots = slots  # and the place behind those is for `ANY`
        self._keeping = threading.Lock()
        self._free = [self._tail - RECORD * (number + 1) for number in range(KEPT)]
        self.kept: dict[str, int | None] = {}  # by `keep`, each with its offset, if there was room
        self._descriptor = locked_file(self._path, self._tail + TAIL)
        try:
            self._memory = mmap.mmap(self._descriptor, self._tail + TAIL)
        except BaseException:  # it takes a descriptor more
            os.close(self._descriptor)
            unlink(self._path)
            raise
        self._closed = False
        self._pid = getpid()
        self._stat = os.fstat(self._descriptor)
        _inheritable.add(self)

    @property
    def intact(self) -> bool:
        """Whether the lock's descriptor is still open; code that closes all descriptors closes SQLite's, too."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._stat)
        except OSError:
            return False

    def check(self) -> None:
        """Raise `OSError` if it is not: SQLite might write to the files that have its descriptors' numbers now."""
        if not self.intact:
            raise OSError(errno.EBADF, "the lock's descriptor was closed by code that does not own it")

    def enter(self, slot: int, run: str) -> None:
        """Note that the run (at most 47 ASCII characters) is executing in this slot; `IndexError` if it is longer."""
        self._memory[self._places[slot]] = b"%-*b\n" % (RECORD - 1, run.encode())

    def leave(self, slot: int) -> None:
        """Note that nothing is executing in this slot."""
        try:
            self._memory[self._places[slot]] = EMPTY
        except ValueError:  # closed: a run that was given up has outlived its worker
            return

    def keep(self, run: str) -> None:
        """Note that the run has been executed, until `drop`; its slot is another's meanwhile."""
        with self._keeping, suppress(ValueError):  # closed
            if run not in self.kept:
                self.kept[run] = at = self._free.pop() if self._free else None
                if at is None:
                    self.enter(self._slots, ANY)
                else:
                    self._memory[at : at + RECORD] = b"%-*b\n" % (RECORD - 1, run.encode())

    def drop(self, run: str) -> None:
        """Forget that the run has been executed: its end is on record."""
        with self._keeping:
            at = self.kept.pop(run, 0)
            if at is None and None not in self.kept.values():
                self.leave(self._slots)
            elif at:
                with suppress(ValueError):  # closed
                    self._memory[at : at + RECORD] = EMPTY
                self._free.append(at)

    def note(self, text: str) -> None:
        """Note something about its process (at most 46 ASCII characters) for other processes; empty: nothing."""
        with suppress(ValueError):  # closed
            self._memory[self._note] = b"%b%-*b\n" % (NOTE, RECORD - 2, text.encode()) if text else EMPTY

    def note_stop(self) -> None:
        """Note that this process was told to stop: its unfinished jobs count no death. One write, for handlers."""
        with suppress(ValueError):  # closed
            self._memory[self._tail : self._tail + 1] = TOLD

    def signal_descriptor(self) -> int | None:
        """Open the file for the interpreter, which writes the number of each signal to it; None: not possible here.

        HAZARD: if a job closes it, signals are written to the next file that gets its number. So the number is high:
        the system assigns the lowest.
        """
        if sys.platform == "win32":
            return None
        low = os.open(self._path, os.O_WRONLY | READY)
        try:
            os.lseek(low, self._tail + 1, os.SEEK_SET)
            return duplicated_high(low)
        finally:
            os.close(low)

    def close(self) -> None:
        """Remove the file and free the lock, in this order. May be called again, and by its owner alone."""
        if self._closed or getpid() != self._pid:
            return
        if os.name != "nt":
            unlink(self._path)  # before the lock is free, so that no worker takes this for a death
        self._forsake()
        if os.name == "nt":
            unlink(self._path)  # Windows removes no open file

    def abandon(self, executing: Iterable[str] = ()) -> None:
        """Free the lock as if this process had died executing these runs: others release what it could not."""
        if getpid() != self._pid:
            return
        if not self._closed:
            self._memory[: self._tail] = bytes(self._tail)
            runs = list(executing)
            for slot, run in zip(range(self._slots), runs, strict=False):
                self.enter(slot, run)
            if len(runs) > self._slots:
                self.enter(self._slots, ANY)
        self._forsake()

    def _forsake(self) -> None:
        if self._closed:
            return
        intact, self._closed = self.intact, True
        self._memory.close()  # it holds a descriptor, and so the lock, of its own
        if intact:  # else the number may be another file's by now
            os.close(self._descriptor)

    def __repr__(self) -> str:
        return f"<ProcessLock {self.token} {'closed' if self._closed else 'held'} slots={self._slots}>"


class DeadProcess:
    """The lock file of a dead process. While it is held, no other process can take it.

    `executing`: the runs noted at death. `told`: the process had been told to stop. `missing`: there was no lock file;
    it was closed, or has been reaped already.
    """

    def __init__(self, token: str, path: Path, descriptor: int | None = None, data: bytes = b"") -> None:
        self.token = token
        self.executing: frozenset[str] = frozenset(_runs(data))
        self.told: bool = _told(data)
        self.missing: bool = descriptor is None
        self._path = path
        self._descriptor = descriptor
        _inheritable.add(self)

    def reap(self) -> None:
        """Remove the file: the dead process has been reaped. May be called again."""
        if self._descriptor is None:
            return
        if os.name == "nt":
            self._forsake()  # Windows removes no open file
            unlink(self._path)
            return
        unlink(self._path)
        self._forsake()

    def release(self) -> None:
        """Free the lock and leave the file to the next process. May be called again."""
        self._forsake()

    def _forsake(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __repr__(self) -> str:
        return f"<DeadProcess {self.token} {'missing' if self.missing else 'found'} executing={sorted(self.executing)}>"


def take(directory: Path, token: str) -> DeadProcess | None:
    """Take the lock file of that token; None if its process lives, another holds it, or we may not open it."""
    path = directory / f"{token}.lock"
    if not _TOKEN.fullmatch(token):  # someone else's: no lock of ours has such a name, and it may lead elsewhere
        return DeadProcess(token, path)
    try:
        descriptor = os.open(path, os.O_RDWR | READY)
    except FileNotFoundError:
        return DeadProcess(token, path)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return DeadProcess(token, path)
    if not try_lock(descriptor):
        os.close(descriptor)
        return None
    if not has_name(path, descriptor):
        os.close(descriptor)
        return DeadProcess(token, path)
    return DeadProcess(token, path, descriptor, _content(descriptor))


def is_held(directory: Path, token: str) -> bool:
    """Whether a living process holds the lock of that token."""
    dead_process = take(directory, token)
    if dead_process is None:
        return True
    dead_process.release()
    return False


def noted(directory: Path, token: str) -> frozenset[str]:
    """Return the runs noted by that token's process without taking its lock, which a child may still hold."""
    return frozenset(_runs(_looked_at(directory, token)))


def told(directory: Path, token: str) -> bool:
    """Return whether that token's process was told to stop, without taking its lock."""
    return _told(_looked_at(directory, token))


def loop_silent_since(directory: Path, token: str) -> float | None:
    """Return the unix second since when an event loop of that token's process, which lives, has not answered."""
    for record in _records(_looked_at(directory, token)):
        what, _, moment = record.removeprefix(NOTE.decode()).partition(" ")
        if record.startswith(NOTE.decode()) and what == LOOP_SILENT and moment.isdecimal():
            return float(moment)
    return None


def _looked_at(directory: Path, token: str) -> bytes:
    if not _TOKEN.fullmatch(token):
        return b""
    try:
        descriptor = os.open(directory / f"{token}.lock", os.O_RDONLY | READY)
    except OSError:
        return b""
    try:
        return _content(descriptor)
    finally:
        os.close(descriptor)


def forget(directory: Path, token: str) -> None:
    """Remove the lock file of a dead process, though another process still holds the lock."""
    unlink(directory / f"{token}.lock")


def tokens(directory: Path) -> list[str]:
    """Return the tokens of all lock files here, of live and dead processes; remove unfinished files."""
    try:
        names = os.listdir(directory)  # noqa: PTH208 - a list of names is all it takes
    except FileNotFoundError:
        return []
    for name in names:
        if name.endswith(".tmp"):
            _sweep(directory / name)
    return sorted(name[:-5] for name in names if name.endswith(".lock"))


def _sweep(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | BINARY)
    except OSError:
        return
    try:
        # Its owner may have renamed it since; the name must still be this file's.
        if try_lock(descriptor) and has_name(path, descriptor):
            unlink(path)
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return b""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, min(LARGEST, os.fstat(descriptor).st_size))


def _told(data: bytes) -> bool:
    return any(number in data for number in STOP_NUMBERS)


def _runs(data: bytes) -> list[str]:
    return [record for record in _records(data) if not record.startswith(NOTE.decode())]


def _records(data: bytes) -> list[str]:
    records = (data[at : at + RECORD] for at in range(0, len(data), RECORD))
    return [record[:-1].decode(errors="replace").rstrip() for record in records if _whole(record)]


def _whole(record: bytes) -> bool:
    return record.endswith(b"\n") and min(record[:-1], default=0) >= SPACE  # else cut short, or numbers of signals


_inheritable: weakref.WeakSet[ProcessLock | DeadProcess] = weakref.WeakSet()


def _after_fork() -> None:
    # Closing the child's copies frees no lock of the parent's; keeping them would hold it beyond the parent's death.
    for owner in list(_inheritable):
        owner._forsake()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
