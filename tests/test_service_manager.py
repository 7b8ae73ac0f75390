"""systemd is told that the worker claims, goes on and stops; a supervisor speaks for all of its workers."""

import io
import os
import signal
import socket
import sys
import threading

import pytest

from command_line import Command
from crash.watching import until
from litequeue import Queue
from litequeue.errors import StoreBusy
from litequeue.ipc.service_manager import ServiceManager, service_manager
from litequeue.testing import ManualClock
from litequeue.worker.supervisor import Child, Supervisor
from litequeue.worker.watchdog import Manager, Watchdog

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no such sockets here")

APP = """
import os, time
from pathlib import Path
from litequeue import Queue

queue = Queue("app.db", durability="normal")

@queue.task
def environment() -> list[str]:
    return [name for name in os.environ if name.startswith(("NOTIFY", "WATCHDOG"))]

@queue.task
def gated() -> None:
    Path("begun").touch()
    while not Path("gate").exists():
        time.sleep(0.01)
"""


class Listener:
    """A service manager's socket, and what came there."""

    def __init__(self, address):
        self.name = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(0.05)
        self.messages = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        while not self._stop.is_set():
            try:
                self.messages.append(self.socket.recv(10_000).decode().splitlines())
            except TimeoutError:
                continue

    def heard(self, line, times=1):
        return until(lambda: sum(line in lines for lines in list(self.messages)) >= times, f"{line} {self.messages}")

    def close(self):
        self._stop.set()
        self._thread.join()
        self.socket.close()


@pytest.fixture
def listen():
    listening = []

    def at(address):
        listening.append(Listener(address))
        return listening[-1]

    yield at
    for listener in listening:
        listener.close()


@pytest.fixture
def start(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    started = []

    def starting(*arguments, **environment):
        started.append(Command(tmp_path, "run", "app:queue", *arguments, **environment))
        return started[-1]

    yield starting
    (tmp_path / "gate").touch()
    for command in started:
        command.clean_up()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "address", "status"),
    [
        (("--threads", "6"), "/notify", "0 of 106 jobs running, 0 claimed so far"),
        pytest.param(
            ("--processes", "2"),
            "@litequeue",
            "2 of 2 worker processes claim",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="no abstract names here"),
        ),
    ],
    ids=["alone", "supervised"],
)
def test_systemd_hears_when_it_claims_goes_on_and_stops(start, tmp_path, listen, options, address, status):
    listener = listen(f"{tmp_path}/notify" if address[0] == "/" else f"{address}-{os.getpid()}")
    command = start(*options, NOTIFY_SOCKET=listener.name, WATCHDOG_USEC="400000")
    listener.heard("READY=1")
    ready = listener.messages[0]
    assert ready[:2] == ["READY=1", f"STATUS={status}"]
    listener.heard("WATCHDOG=1", 4)
    with Queue(tmp_path / "app.db", durability="normal") as queue:
        environment = queue.task(name="environment")(lambda: None).enqueue()
        assert environment.result(timeout=20) == []
        queue.task(name="gated")(lambda: None).enqueue()
        until((tmp_path / "begun").exists)
    command.signal(signal.SIGTERM)
    listener.heard("STOPPING=1")
    (tmp_path / "gate").touch()
    assert command.ends() == 0
    assert sum("READY=1" in lines for lines in listener.messages) == 1
    assert "STOPPING=1" in listener.messages[-1]


# What the environment says


def test_the_environment_is_read_and_emptied():
    there = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    manager = service_manager(there)
    assert (manager.watchdog, there) == (3.0, {"HOME": "/"})
    assert Manager(manager).every == 1.5


@pytest.mark.parametrize(
    ("environment", "watchdog", "warning"),
    [
        ({"NOTIFY_SOCKET": "/run/x"}, 0.0, ""),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}, 0.0, ""),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "often"}, 0.0, "WATCHDOG_USEC is 'often'"),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, None, "no path and no @name"),
        ({"WATCHDOG_USEC": "1000000"}, None, ""),
        ({}, None, ""),
    ],
)
def test_what_the_environment_lacks_or_has_wrong_is_left_out(environment, watchdog, warning, caplog):
    manager = service_manager(environment)
    assert (None if manager is None else manager.watchdog) == watchdog
    assert warning in caplog.text
    assert bool(warning) is bool(caplog.text)


@pytest.mark.parametrize("address", ["/nowhere/at/all", "/" + 300 * "x", "@" + 300 * "x"])
def test_a_manager_that_is_not_there_is_named_once_and_harms_nothing(address, caplog):
    manager = ServiceManager(address)
    manager.tell("READY=1")
    manager.tell("WATCHDOG=1")
    [message] = caplog.messages
    assert "cannot be told READY=1 at $NOTIFY_SOCKET" in message


# A loop that hangs is silent


class Heard:
    every = 0.0

    def __init__(self):
        self.words = []

    def claims(self, status):
        self.words.append(f"claims {status}")

    def goes_on(self, status):
        self.words.append(f"goes on {status}")

    def stops(self, status):
        self.words.append(f"stops {status}")


def test_it_is_the_loop_that_claims_which_tells_and_not_before_it_claims():
    heard = Heard()
    watchdog = Watchdog(heard, lambda: "2 jobs")
    watchdog.feed()
    assert (heard.words, watchdog.due_in()) == ([], float("inf"))
    watchdog.begin()
    watchdog.begin()
    watchdog.feed()
    watchdog.stop()
    watchdog.stop()
    watchdog.feed()
    assert heard.words == ["claims 2 jobs", "goes on 2 jobs", "stops 2 jobs", "stops 2 jobs"]


def test_a_worker_that_cannot_claim_has_not_started_and_one_that_cannot_any_more_goes_on(database, monkeypatch, soon):
    heard, refuses = Heard(), threading.Event()
    refuses.set()
    with Queue(database, durability="normal") as queue:
        claim = type(queue.engine.runs).claim

        def claiming(*arguments, **options):
            if refuses.is_set():
                raise StoreBusy("locked")
            return claim(*arguments, **options)

        tries = []
        monkeypatch.setattr(type(queue.engine.runs), "claim", lambda *a, **o: (tries.append(1), claiming(*a, **o))[1])
        queue.task(name="any")(lambda: None)
        worker = queue.worker(threads=1)
        worker.watcher = heard
        with worker:
            until(lambda: len(tries) > 2)
            assert heard.words == []
            refuses.clear()
            until(lambda: heard.words)
            refuses.set()
            queue.tasks["any"].enqueue()
            failing = len(tries)
            until(lambda: len(tries) > failing + 2)
            words = len(heard.words)
            until(lambda: len(heard.words) > words)
    assert heard.words[0].startswith("claims 0 of ")
    assert heard.words[-1].startswith("stops ")


class Told:
    watchdog = 10.0

    def __init__(self):
        self.lines = []

    def tell(self, *lines):
        self.lines.append(lines)


def test_a_supervisor_speaks_only_while_all_of_its_workers_do():
    told, clock = Told(), ManualClock()
    supervisor = Supervisor(lambda first: [], 2, manager=told, clock=clock)
    children = [Child(process=None, channel=None, started=0.0) for _ in range(2)]
    supervisor.children = children

    def tell(*alive):
        for child in alive:
            child.alive_at = clock.monotonic()
        supervisor._tell_manager()

    tell(children[0])
    assert told.lines == []  # one of them claims nothing yet
    tell(children[1])
    assert told.lines.pop() == ("READY=1", "STATUS=2 of 2 worker processes claim", "WATCHDOG=1")
    clock.advance(6)
    tell(*children)
    assert told.lines.pop() == ("STATUS=2 of 2 worker processes claim", "WATCHDOG=1")
    clock.advance(6)
    tell(children[0])
    assert told.lines == []  # the other one hangs
    tell(children[1])
    assert told.lines.pop()[-1] == "WATCHDOG=1"
    children[1] = Child(process=None, channel=None, started=0.0)  # it died, and another is starting
    clock.advance(6)
    tell(children[0])
    assert told.lines.pop() == ("STATUS=1 of 2 worker processes claim", "WATCHDOG=1")
    children.pop()
    children[0].channel = io.BytesIO()
    supervisor._begin_to_stop(b"")
    assert "STATUS=stopping: 1 worker process is ending" in told.lines.pop()
