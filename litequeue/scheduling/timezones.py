"""Time zones by their IANA names, the machine's own among them. Loaded with the first cron trigger."""

from __future__ import annotations

import difflib
import os
import zoneinfo
from datetime import timezone, tzinfo
from pathlib import Path

UNKNOWN = (KeyError, ValueError, OSError)  # what zoneinfo raises; OSError for the name of a folder, such as "America"


def of(name: str) -> tzinfo:
    """Return the zone of that name; raises one of `UNKNOWN` if there is none."""
    return timezone.utc if name == "UTC" else zoneinfo.ZoneInfo(name)  # UTC needs no time zone database


def name_of(tz: str | zoneinfo.ZoneInfo | None) -> str:
    """Return the name of a zone given as either, or of the machine's own; raises `ValueError` if there is none."""
    name = local() if tz is None else tz.key if isinstance(tz, zoneinfo.ZoneInfo) else tz
    if not isinstance(name, str):
        raise TypeError(f'tz must be the name of a time zone such as "Europe/Paris", got {tz!r}')
    try:
        of(name)
    except UNKNOWN as error:
        raise ValueError(f"unknown time zone {name!r}; {_suggestion(name)}") from error
    return name


def _suggestion(name: str) -> str:
    names = zoneinfo.available_timezones()
    if not names:
        return "this machine has no time zone database: install the package tzdata"
    wanted = name.strip().replace(" ", "_").lower()
    by_city = sorted(zone for zone in names if zone.lower().rpartition("/")[2] == wanted.rpartition("/")[2])
    lower = {zone.lower(): zone for zone in sorted(names)}
    near = [lower[match] for match in difflib.get_close_matches(wanted, lower, n=1)]
    found = near + by_city
    return f"did you mean {found[0]!r}?" if found else 'write an IANA name such as "Europe/Paris"'


def local() -> str:
    """Return the IANA name of the machine's time zone, such as `"Europe/Paris"`; `"UTC"` where nothing tells it.

    Looked up in this order: the variable TZ, the link /etc/localtime, the text of /etc/timezone.
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
        return bool(name) and bool(of(name))
    except UNKNOWN:
        return False
