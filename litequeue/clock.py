"""Read the wall clock, the monotonic clock and the machine's time zone. The only file that does."""

from __future__ import annotations

import os
import time
import zoneinfo
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What the rest of litequeue asks for the time; tests pass `litequeue.testing.ManualClock`."""

    def now(self) -> float:
        """Unix seconds of the wall clock, which may jump either way."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...


class SystemClock:
    """The clocks of this machine."""

    # the C functions themselves: an idle worker that is rung asks some twenty times before the job begins
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def __repr__(self) -> str:
        return "<SystemClock>"


def local_zone() -> str:
    """Return the IANA name of the machine's time zone, such as `"Europe/Paris"`; `"UTC"` where nothing tells it.

    Asked in turn: the variable TZ, the link /etc/localtime, the text of /etc/timezone.
    """
    for text in (os.environ.get("TZ", ""), os.path.realpath("/etc/localtime"), _first_line("/etc/timezone")):
        name = text.removeprefix(":").rpartition("zoneinfo/")[2]  # POSIX allows TZ=":/usr/share/zoneinfo/Europe/Paris"
        if _is_zone(name):
            return name
    return "UTC"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, ValueError):
        return ""


def _is_zone(name: str) -> bool:
    try:
        return bool(name) and bool(zoneinfo.ZoneInfo(name))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder, such as "America"
        return False
