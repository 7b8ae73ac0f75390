"""The service manager that started this process, as systemd's `sd_notify` tells it. Knows no worker.

The protocol is that of sd_notify(3) and sd_watchdog_enabled(3): lines of text in one datagram to a socket.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from litequeue.core.logger import log

if TYPE_CHECKING:
    from collections.abc import MutableMapping

PATIENCE = 0.5  # seconds for a manager that does not read


class ServiceManager:
    """What listens at `address`. `watchdog`: seconds within which it wants to hear from us again; 0: never."""

    def __init__(self, address: str, watchdog: float = 0.0) -> None:
        self.watchdog: float = watchdog
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._failed = False

    def tell(self, *lines: str) -> None:
        """Send these lines, such as READY=1; a failure is logged once and changes nothing else."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(PATIENCE)
                sender.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except (OSError, ValueError) as error:  # a path that is too long, or has a null byte
            if not self._failed:
                self._failed = True
                log.warning("the service manager cannot be told %s at $NOTIFY_SOCKET: %s", lines[0], error)


def service_manager(environment: MutableMapping[str, str]) -> ServiceManager | None:
    """Return the one that the environment names, and take it out of there: no process that a job starts is meant."""
    address = environment.pop("NOTIFY_SOCKET", "")
    microseconds = environment.pop("WATCHDOG_USEC", "")
    process = environment.pop("WATCHDOG_PID", "")
    if not address:
        return None
    if address[0] not in "/@" or not hasattr(socket, "AF_UNIX"):
        log.warning("$NOTIFY_SOCKET is %r, which is no path and no @name; the service manager is told nothing", address)
        return None
    if process not in ("", str(os.getpid())) or not microseconds:
        return ServiceManager(address)
    try:
        return ServiceManager(address, max(0, int(microseconds)) / 1e6)
    except ValueError:
        log.warning("$WATCHDOG_USEC is %r, which is no number of microseconds; it is ignored", microseconds)
        return ServiceManager(address)
