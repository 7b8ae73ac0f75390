"""The identity of a process among all that have ever run, and whether it still runs. Knows no file of ours."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

LARGEST_PID = 2**31 - 1  # what the system takes for one at all
TICKS_PER_SECOND = 1 if sys.platform == "win32" else os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Identity:
    """One process among all that have ever run. Texts are "" where the system does not provide them.

    `started` is field 22 of /proc/<pid>/stat (ticks since boot), `namespace` that of the pid: see proc(5).
    """

    host: str
    pid: int
    started: str
    boot: str
    namespace: str

    @classmethod
    def current(cls) -> Identity:
        """Return the identity of this process."""
        stat = _stat(os.getpid())
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=stat.started if stat else "",
            boot=_boot(),
            namespace=_namespace(),
        )

    def to_text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Identity:
        """Read what to_text() wrote, in this version or another; any other text is an unknown process."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        known = data if isinstance(data, dict) else {}
        texts = {name: _printable(known.get(name)) for name in ("host", "started", "boot", "namespace")}
        pid = known.get("pid")
        return cls(pid=pid if isinstance(pid, int) and 0 < pid <= LARGEST_PID else 0, **texts)

    def same_boot(self, other: Identity) -> bool:
        """Return whether both are known to have run on one machine since it was started."""
        return self.boot != "" and self.boot == other.boot


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/<pid>/stat that are used here."""

    state: str
    started: str
    ticks: int


def alive(identity: Identity) -> bool | None:
    """Return whether that process runs (a zombie does not), or None if this cannot be known."""
    if _boot_is_over(identity):
        return False
    if not _visible(identity):
        return None
    stat = _stat(identity.pid)
    if stat is None:
        return None if _may_be_hidden(identity.pid) else False
    return stat.started == identity.started and stat.state not in "ZX"


def cpu_seconds(identity: Identity) -> float | None:
    """Return the seconds of CPU that process has used, user and system; None if unknown, or if it is dead."""
    stat = _stat(identity.pid) if _visible(identity) else None
    if stat is None or stat.started != identity.started or stat.state in "ZX":
        return None
    return stat.ticks / TICKS_PER_SECOND


def _printable(value: object) -> str:
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""  # no lone surrogates


def _boot_is_over(identity: Identity) -> bool:
    boot = _boot()
    return bool(boot and identity.boot) and boot != identity.boot and identity.host == socket.gethostname()


def _visible(identity: Identity) -> bool:
    here = (_boot(), _namespace())
    return "" not in here and here == (identity.boot, identity.namespace)


def _may_be_hidden(pid: int) -> bool:
    # /proc mounted with hidepid shows no process of another user.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return False


def _stat(pid: int) -> Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode(errors="replace")
    except OSError:
        return None
    after_name = text.rpartition(")")[2].split()  # from field 3 on: the name may hold spaces and brackets
    return Stat(state=after_name[0], started=after_name[19], ticks=int(after_name[11]) + int(after_name[12]))


def boot_id() -> str:
    """Name this boot of the machine; '' where the system does not say."""
    return _boot()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a path
    except OSError:
        return ""
