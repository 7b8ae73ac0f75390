"""A Redis server of our own: on the loopback, on a free port, with a temporary folder, ended with the block."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

UNPACKED = Path(__file__).resolve().parents[2] / ".venv-peers" / "redis"
OPTIONS = {"snapshots": (), "fsync": ("--appendonly", "yes", "--appendfsync", "always")}


class RedisServer:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._port = port
        self.url = f"redis://127.0.0.1:{port}"

    def command(self, *words: str) -> bytes:
        """Send a command; give the first piece of the answer."""
        parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)]
        with socket.create_connection(("127.0.0.1", self._port), timeout=10) as connection:
            connection.sendall(b"".join(parts))
            return connection.recv(4096)

    def empty(self) -> None:
        """Forget everything."""
        answer = self.command("FLUSHALL")
        if not answer.startswith(b"+OK"):
            raise RuntimeError(f"FLUSHALL: {answer!r}")


def has_redis() -> bool:
    """Whether there is a server to start."""
    return _binary() is not None


def version() -> str:
    """Tell the server's version."""
    binary = _binary()
    if binary is None:
        return "none"
    told = subprocess.run([binary, "--version"], env=_environment(), capture_output=True, text=True, check=True)
    return next(word[2:] for word in told.stdout.split() if word.startswith("v="))


@contextlib.contextmanager
def redis_server(broker: str) -> Iterator[RedisServer]:
    """Start a server for the block. It dies with this process, however that ends."""
    binary = _binary()
    if binary is None:
        raise FileNotFoundError("there is no redis-server: `make bench-peers` fetches one")
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="bench-redis") as folder:
        where = ("--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--logfile", f"{folder}/log")
        process = subprocess.Popen(
            [*dying_with_us("KILL"), binary, *where, *OPTIONS[broker]], env=_environment(), start_new_session=True
        )
        try:
            server = RedisServer(process, port)
            _wait(server, process)
            yield server
        finally:
            process.send_signal(signal.SIGKILL)  # nothing of it is kept
            process.wait()


def dying_with_us(sent: str) -> tuple[str, ...]:
    """Have the kernel end a command when this process ends without its `finally`: the words that come before it."""
    if sys.platform != "linux" or not shutil.which("setpriv"):
        return ()
    return ("setpriv", "--pdeathsig", sent)


def _wait(server: RedisServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):
            if server.command("PING").startswith(b"+PONG"):
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"redis-server did not start: ended with {process.poll()}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _binary() -> str | None:
    unpacked = UNPACKED / "usr/bin/redis-server"
    return shutil.which("redis-server") or (str(unpacked) if unpacked.exists() else None)


def _environment() -> dict[str, str]:
    """Let a server that was unpacked rather than installed find its libraries."""
    folders = [str(folder) for folder in UNPACKED.glob("usr/lib/*") if folder.is_dir()]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join([*folders, os.environ.get("LD_LIBRARY_PATH", "")]).strip(":")}
