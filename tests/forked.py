"""Start programs in processes forked from one that has imported litequeue and opened nothing.

An interpreter of its own takes a third of a second for that, which is most of the life of most programs of tests. The
process that forks has one thread, and each child is as `python -c` is: it has its arguments, its streams and
descriptors, and it ends as Python ends. Not for programs that fork, that have threads when they fork, or that look at
their command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
DEADLINE = 60.0  # seconds; only a defect waits so long
LARGEST = 100_000  # bytes of a request


class Forked:
    """A process that runs this program; its stdin and stdout are pipes, its stderr is kept for when it has ended."""

    def __init__(self, program, *arguments, cwd=ROOT):
        theirs, self._status = socket.socketpair()
        stdin, mine = os.pipe()
        out, stdout = os.pipe()
        self.stdin, self.stdout = os.fdopen(mine, "w", buffering=1), os.fdopen(out)
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        request = json.dumps([program, list(map(str, arguments)), str(cwd), dict(os.environ)]).encode()
        assert len(request) < LARGEST
        fds = [stdin, stdout, self._errors.fileno(), theirs.fileno()]
        socket.send_fds(_server(os.getpid())[0], [request], fds)
        os.close(stdin)
        os.close(stdout)
        theirs.close()
        self.returncode = None

    def ends(self):
        """Let it come to its end, with no more input; return its exit code, what else it printed, and its stderr."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        output = self.stdout.read()
        self.wait()
        self._errors.seek(0)
        errors = self._errors.read()
        self.close()
        return self.returncode, output, errors

    def wait(self):
        if self.returncode is None:
            assert select.select([self._status], [], [], DEADLINE)[0], "it does not end"
            self.returncode = int(self._status.recv(100))

    def close(self):
        """Close its streams: a program that reads its input ends."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        for one in (self.stdout, self._errors, self._status):
            one.close()


def run(program, *arguments, cwd=ROOT):
    """Run a program to its end, which must be a good one; return what it printed."""
    code, output, errors = Forked(program, *arguments, cwd=cwd).ends()
    assert code == 0, errors
    return output


@cache
def _server(_pid):
    """The socket to the process that forks, one of this process's own, and what keeps that process."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, str(theirs.fileno())]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = os.environ | {"PYTHONPATH": paths}
    nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    server = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, **nothing)
    theirs.close()
    return mine, server


# ---- the process that forks


def serve(requests):
    """Fork for each request, and tell how each child ended; in a child, return its program."""
    import litequeue.cli  # noqa: F401
    from litequeue import Worker  # noqa: F401
    from litequeue.sqlite.drivers import apsw_driver, sqlite3_driver  # noqa: F401

    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting = {}
    while True:
        readable, _, _ = select.select([woken, requests], [], [])
        if woken in readable:
            os.read(woken, 1000)
            _tell_ends(waiting)
        if requests in readable:
            request, fds, _, _ = socket.recv_fds(requests, LARGEST, 4)
            if not request:
                os._exit(0)  # whoever asks is gone
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (woken, wake, *(status.detach() for status in waiting.values()), requests.detach()):
                    os.close(one)
                return _become(request, fds)
            waiting[pid] = socket.socket(fileno=fds.pop())
            for one in fds:
                os.close(one)


def _tell_ends(waiting):
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with waiting.pop(ended[0]) as status, contextlib.suppress(OSError):
                status.send(str(os.waitstatus_to_exitcode(ended[1])).encode())


def _become(request, fds):
    """Be, in a child, the process that was asked for; return the program that it runs."""
    program, arguments, cwd, environment = json.loads(request)
    for stream, given in enumerate(fds[:3]):
        os.dup2(given, stream)
    for given in fds:
        os.close(given)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path[0] = ["-c", *arguments], ""
    sys.modules["__main__"] = ModuleType("__main__")
    return program


if __name__ == "__main__":
    text = serve(socket.socket(fileno=int(sys.argv[1])))
    exec(compile(text, "<string>", "exec"), vars(sys.modules["__main__"]))
