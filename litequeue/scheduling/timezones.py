"""Time zones by their IANA names, the machine's own among them. Loaded with the first trigger that has one."""

from __future__ import annotations

import difflib
import os
import zoneinfo
from datetime import timedelta, timezone, tzinfo
from pathlib import Path

from litequeue.core.duration import utc

UNKNOWN = (KeyError, ValueError, OSError)  # what zoneinfo raises; OSError for the name of a folder, such as "America"
LOCALTIME, TIMEZONE = "/etc/localtime", "/etc/timezone"

_UTC = {"UTC", "Etc/UTC", "UCT", "Etc/UCT", "Universal", "Etc/Universal", "Zulu", "Etc/Zulu", "UTC0"}
_ADVICE = 'pass tz=, such as tz="Europe/Paris" or tz="UTC"'
_MONTHS = [utc(1_577_836_800 + month * 30 * 86_400) for month in range(150)]  # 2020 to 2032


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
    """Return the IANA name of the machine's time zone, such as `"Europe/Paris"`; raises `ValueError` if nothing tells.

    The variable TZ tells it, else the link /etc/localtime, else /etc/timezone if /etc/localtime is a copy of that zone.
    A guess could run every schedule hours off: so what has no name, such as `TZ=JST-9`, is refused.
    """
    given = os.environ.get("TZ")
    if given is not None and given.removeprefix(":") != LOCALTIME:
        return _known(given, f"TZ={given}")
    target = os.path.realpath(LOCALTIME)
    name = _known(target, f"{LOCALTIME} is {target}") if "zoneinfo/" in target else _first_line(TIMEZONE)
    if Path(target).is_file():
        return _confirmed(name, target)
    if "zoneinfo/" in target:  # the system has no data, the package tzdata may
        return name
    raise ValueError(f"the time zone of this machine is not known: it has neither TZ nor {LOCALTIME}; {_ADVICE}")


def _known(text: str, source: str) -> str:
    name = text.removeprefix(":").rpartition("zoneinfo/")[2]  # POSIX allows TZ=":/usr/share/zoneinfo/Europe/Paris"
    if name in _UTC:
        return "UTC"
    if _is_zone(name):
        return name
    if name and not zoneinfo.available_timezones():
        raise ValueError(
            f"{source}, but this machine has no time zone database: install the package tzdata, or {_ADVICE}"
        )
    raise ValueError(f"the time zone of this machine ({source}) has no IANA name; {_ADVICE}")


def _confirmed(name: str, path: str) -> str:
    """Return the name if the file holds that zone, over which another may be mounted; UTC also without a name."""
    try:
        with Path(path).open("rb") as file:
            held = _offsets(zoneinfo.ZoneInfo.from_file(file))
    except UNKNOWN as error:
        raise ValueError(f"the time zone of this machine is not known: {path} cannot be read; {_ADVICE}") from error
    if name in _UTC or (not name and set(held) == {timedelta(0)}):
        name = "UTC"
    if _is_zone(name) and _offsets(of(name)) == held:
        return name
    raise ValueError(
        f"the time zone of this machine has no name: {LOCALTIME} holds a copy of a zone which is not"
        f" {name or 'named anywhere'}; {_ADVICE}"
    )


def _offsets(zone: tzinfo) -> list[timedelta | None]:
    return [moment.astimezone(zone).utcoffset() for moment in _MONTHS]


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
