"""Functions that tests run in child processes: a child finds them here, by module and name."""

import asyncio
import contextlib
import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from litequeue import Failure, GiveUp, JobTimeout, Queue, Retry, Snooze, current_job

LONG = 600  # seconds: longer than any test


def pid() -> int:
    return os.getpid()


def add(a: int, b: int = 1) -> int:
    return a + b


async def add_slowly(a: int, b: int = 1) -> int:
    await asyncio.sleep(0.001)
    return a + b


def double(text: str) -> str:
    return text * 2


def raises(message: str) -> None:
    raise ValueError(message)


# ---- ends of a child


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def exits(code: int) -> None:
    os._exit(code)


def prints_and_exits(text: str, code: int) -> None:
    print(text)
    os._exit(code)


def closes_all_and_returns() -> int:
    os.closerange(3, 4096)
    return 1


def closes_all_and_hangs() -> None:
    os.closerange(3, 4096)
    while True:
        time.sleep(LONG)


def fills_memory(limit: int) -> int:
    """Ask for memory in C code that does not look whether it got any."""
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    while True:
        there = libc.malloc(50_000_000)
        ctypes.memset(there, 1, 50_000_000)


def runs_out_of_memory(limit: int) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    held = []
    while True:
        held.append(bytearray(20_000_000))


def sys_exit(code: Any) -> None:
    sys.exit(code)


# ---- jobs that do not end


def begins(path: str) -> None:
    """Leave a file with this process's number, whole at once."""
    whole = f"{path}.{os.getpid()}.part"
    Path(whole).write_text(str(os.getpid()))
    Path(whole).rename(path)


def note(path: str, text: str = "cleaned up") -> None:
    Path(path).write_text(text)


def hangs(path: str) -> None:
    begins(path)
    while True:
        time.sleep(LONG)


def hangs_in_c(path: str) -> None:
    """Hang in C code that lets other threads run, and where no signal reaches Python."""
    begins(path)
    while True:
        ctypes.CDLL(None).sleep(LONG)


def hangs_in_c_with_the_interpreter(path: str) -> None:
    begins(path)
    while True:
        ctypes.PyDLL(None).sleep(LONG)


def hangs_deaf(path: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    hangs_in_c(path)


def swallows_all(path: str) -> None:
    begins(path)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(LONG)


def prints_without_end(path: str, line: str) -> None:
    begins(path)
    while True:
        sys.stdout.write(line)
        sys.stdout.flush()


def gated(path: str, gate: str) -> int:
    begins(path)
    while not Path(gate).exists():
        time.sleep(0.005)
    return os.getpid()


def gated_once(path: str, gate: str) -> int:
    """Hang in C code in the first run, and pass in the next."""
    if current_job().attempt == 1:
        hangs_in_c(path)
    return gated(path, gate)


async def gated_coroutine(path: str, gate: str) -> int:
    begins(path)
    while not os.path.exists(gate):  # noqa: ASYNC240  a look at a name
        await asyncio.sleep(0.005)
    return os.getpid()


async def cancelled_coroutine(path: str, noted: str) -> None:
    begins(path)
    try:
        await asyncio.sleep(LONG)
    finally:
        await asyncio.sleep(0.001)
        note(noted)


def sees_cancel(path: str) -> str:
    begins(path)
    while not current_job().cancelled:
        time.sleep(0.005)
    return "saw it"


def prints(text: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        print(text)
    return os.getpid()


def second_try_after_death(path: str) -> None:
    if not Path(path).exists():
        Path(path).touch()
        os._exit(1)
    raise ValueError("no")


# ---- limits


def cleans_up(path: str, noted: str) -> None:
    begins(path)
    try:
        while True:
            time.sleep(0.005)
    finally:
        note(noted)


def catches_timeout(path: str) -> str:
    begins(path)
    try:
        while True:
            time.sleep(0.005)
    except TimeoutError as error:
        return f"{type(error).__name__}: {error}"


async def catches_timeout_async(path: str) -> str:
    begins(path)
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        return "cancelled"
    return "slept"


def second_time(path: str) -> int:
    if current_job().tries == 1:
        hangs_in_c(path)
    return current_job().tries


# ---- what a job leaves behind, or does to its process


def forks() -> int:
    pid = os.fork()
    if pid == 0:
        return 99  # a copy must not end the job
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _square(number: int) -> int:
    logging.getLogger("square").warning("square of %d: %s", number, "x" * 40_000)
    return number * number


def multiprocesses(method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(_square, range(20), chunksize=1)


def leaves_a_process(path: str) -> int:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(str(child.pid))
    child.returncode = 0  # not ours to wait for
    return child.pid


def leaves_a_process_and_dies(path: str) -> None:
    leaves_a_process(path)
    os._exit(1)


def leaves_a_thread() -> int:
    threading.Thread(target=time.sleep, args=(LONG,)).start()
    return os.getpid()


def unencodable() -> object:
    return object()


def spoils_its_process(folder: str) -> int:
    os.chdir(folder)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  left open
    for number in range(3):
        os.close(number)
    return os.getpid()


def logs(text: str) -> None:
    logging.getLogger("shop").warning("%s", text, extra={"thing": threading.Lock(), "of": _Thing()})


class _Thing:
    """Is found in no other process: its class says that it is of a module that is nowhere."""

    def __repr__(self) -> str:
        return "a thing"


_Thing.__module__ = "no_such_module"


# ---- retries, snoozes


def asks(what: str) -> int:
    if current_job().attempt == 1:
        raise {
            "Retry": Retry("again", delay=0),
            "Snooze": Snooze(0),
            "GiveUp": GiveUp("enough"),
            "ValueError": ValueError("no"),
        }[what]
    return current_job().attempt


def reports(total: int) -> None:
    for done in range(total + 1):
        current_job().progress(done, total, f"at {done}")


async def areports(total: int) -> None:
    for done in range(total + 1):
        await current_job().aprogress(done, total, f"at {done}")


def completes(value: int) -> str:
    with current_job().completing(value) as db:
        db.execute("INSERT INTO effects VALUES (?)", (value,))
    return "not stored"


async def acompletes(value: int) -> str:
    async with current_job().acompleting(value) as db:
        result = db.execute("INSERT INTO effects VALUES (?)", (value,))
        if hasattr(result, "__await__"):
            await result
    return "not stored"


def emits(count: int) -> None:
    for number in range(count):
        current_job().emit(number)


async def aemits(count: int) -> None:
    for number in range(count):
        current_job().emit(number)


def emits_and_completes(count: int) -> None:
    current_job().emit(0)
    with current_job().completing() as db:
        db.execute("INSERT INTO effects VALUES (?)", (count,))
        for number in range(1, count):
            current_job().emit(number)


async def aemits_and_completes(count: int) -> None:
    current_job().emit(0)
    async with current_job().acompleting() as db:
        result = db.execute("INSERT INTO effects VALUES (?)", (count,))
        if hasattr(result, "__await__"):
            await result
        for number in range(1, count):
            current_job().emit(number)


def emits_in_a_block_that_fails(count: int) -> None:
    current_job().emit(0)
    with suppress(ValueError), current_job().completing():
        current_job().emit(1)
        raise ValueError
    current_job().emit(2)


def charges(used: int) -> None:
    current_job().charge("calls", used)


async def handed_on(numbers: list[int]) -> int:
    return sum(numbers)


def told_of(failure: Failure) -> str:
    return f"{failure.error_type}: {failure.message}"


def enqueues(path: str, number: int) -> str:
    """Enqueue a job from inside a child, into the queue's own file."""
    with Queue(path, durability="normal") as queue:
        return queue.enqueue("add", number).id


def older(version: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"a": arguments["first"], "b": 100 * version}


def after_each_failure(failures: int) -> float:
    return failures * 1000.0


def set_up(connection: Any) -> None:
    connection.execute("PRAGMA cache_size = -1000")


def cache_size() -> str:
    with current_job().completing("done") as db:
        (size,) = list(db.execute("PRAGMA cache_size"))
        db.execute("INSERT INTO effects VALUES (?)", (f"{size[0]} {type(db).__module__}",))
    return "not stored"


def spins() -> None:
    while True:
        pass


def sleeps_briefly() -> None:
    while True:
        time.sleep(0.0001)


_kept: list[bytes] = []


def keeps(size: int) -> int:
    """Hold so much memory more."""
    _kept.append(b"x" * size)
    return os.getpid()


def emits_dicts(path: str) -> int:
    for number in range(5):
        current_job().emit({"number": number})
    begins(path)
    return 5


def leaves_a_thread_that_reports(path: str) -> None:
    """Leave a thread that goes on telling of this job while others run here."""
    job, heard = current_job(), []

    def report() -> None:
        for number in range(10_000):
            job._noted = 0.0  # each one is passed on
            for tell, arguments in ((job.progress, (number, None, "of another")), (job.emit, ("of another",))):
                try:
                    tell(*arguments)
                except BaseException as error:
                    heard.append(type(error).__name__)
                    Path(path).write_text(heard[0])
            time.sleep(0.0005)

    threading.Thread(target=report, daemon=True).start()


def completes_and_dies(value: int) -> None:
    completes(value)
    os._exit(3)


def naps(seconds: float) -> None:
    time.sleep(seconds)


def leaves_a_thread_for_a_moment() -> None:
    threading.Thread(target=time.sleep, args=(0.05,)).start()


def forks_a_daemon_and_dies_amid_a_message(path: str) -> None:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        time.sleep(LONG)
        os._exit(0)
    Path(f"{path}{pid}").write_text(str(pid))
    channel = current_job().recorder._channel
    os.write(channel.connection.fileno(), (1000).to_bytes(4, "big") + b"half of it")
    os._exit(1)


def forks_one_that_is_terminated(number: int) -> int:
    ready, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(say, b"x")
        time.sleep(LONG)
        os._exit(0)
    os.read(ready, 1)
    os.kill(pid, number)
    for each in (ready, say):
        os.close(each)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def counts_cancels(path: str, gate: str, counted: str) -> None:
    """Go on until the gate is open, however often it is cancelled; note how often, and end as cancelled."""
    cancels = 0
    begins(path)
    while not (os.path.exists(gate) and cancels):  # noqa: ASYNC240  a look at a name
        try:
            await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            cancels += 1
    for _ in range(20):
        try:
            await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            cancels += 1
    note(counted, str(cancels))
    raise asyncio.CancelledError


def beats(times: int, pause: float) -> list[object]:
    """Give signs of life, then hang; an attempt that finds one returns it."""
    job = current_job()
    if job.heartbeat_details is not None:
        return [job.tries, job.heartbeat_details]
    for number in range(times):
        job.heartbeat({"row": number})
        time.sleep(pause)
    while True:  # in a thread it is stopped between two of these
        time.sleep(0.01)


async def abeats(times: int, pause: float) -> list[object]:
    job = current_job()
    if job.heartbeat_details is not None:
        return [job.tries, job.heartbeat_details]
    for number in range(times):
        job.heartbeat({"row": number})
        await asyncio.sleep(pause)
    await asyncio.sleep(LONG)
    return []


def beats_and_dies() -> object:
    job = current_job()
    if job.heartbeat_details is None:
        job.heartbeat("as far as here")
        os._exit(3)
    return job.heartbeat_details


# ---- what crosses, whatever else the application does


async def cancels_what_it_asks(times: int) -> int:
    """Cancel a report of progress before the worker has answered, again and again."""
    for number in range(times):
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(current_job().aprogress(number, times), 0)
        asked = asyncio.ensure_future(current_job().aprogress(times, times))
        await asyncio.sleep(0)
        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked
    return times


def reports_while_it_completes() -> None:
    with current_job().completing("paid"):
        current_job().progress(1, 1, "inside")


async def areports_while_it_completes() -> None:
    async with current_job().acompleting("paid"):
        await current_job().aprogress(1, 1, "inside")


def logs_in_a_signal_handler(raises: bool) -> str:
    """Log amid whatever the main thread does: it logs and emits all the time. What the handler `raises` is caught."""
    logger, rung, caught, armed = logging.getLogger("shop"), [], 0, False

    def ring(*_: object) -> None:
        nonlocal armed
        rung.append(True)
        logger.warning("rung")
        if raises and armed:
            armed = False
            raise InterruptedError

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    for number in range(2000):
        try:
            armed = True
            logger.warning("number %d %s", number, "x" * 2000)
            if number % 10 == 0:
                current_job().emit(number)
            armed = False
        except Exception:  # or what the codec makes of it
            caught += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    return "heard" if len(rung) > 10 and bool(caught) == raises else f"{len(rung)} only, {caught} caught"


class Littering:
    """Garbage in a cycle that logs when it is collected."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        logging.getLogger("shop").warning("collected")


def logs_when_it_is_collected(times: int) -> int:
    for number in range(times):
        Littering()
        logging.getLogger("shop").warning("%s", [{} for _ in range(number % 50)])
    return times


def logs_large_lines_until_its_limit() -> str:
    try:
        while True:
            logging.getLogger("shop").warning("y" * 20_000)
    except JobTimeout:
        return "heard"


def leaves_a_thread_that_logs() -> None:
    def go_on() -> None:
        while True:
            logging.getLogger("shop").warning("of another job")
            time.sleep(0.002)

    threading.Thread(target=go_on, daemon=True).start()


def sleeps_for_a_moment() -> None:
    time.sleep(0.2)


async def exits_in_a_task_of_its_own() -> str:
    async def exiting() -> None:
        sys.exit(3)

    left = asyncio.create_task(exiting())
    await asyncio.sleep(0.05)
    return f"fine, {left.done()}"


async def stops_its_loop() -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return "fine"


def takes_all_descriptors() -> int:
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    return os.getpid()


async def acalled(path: str) -> int:
    Path(path).touch()  # noqa: ASYNC240
    return os.getpid()


def prints_much_and_dies() -> None:
    for _ in range(50):
        os.write(1, b"x" * 60_000 + b"\n")
    os.write(2, b"LAST WORDS\n")
    os._exit(3)
