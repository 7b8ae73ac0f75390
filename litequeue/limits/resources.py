"""Resources: what a run uses, what a worker offers, and what no worker offers. Knows no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from litequeue.core.names import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 10**15


def checked_resources(given: Any, what: str) -> dict[str, int]:
    """Check amounts by resource, such as `{"gpu": 1, "ram_mb": 4000}`."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f'{what} must give an amount for each resource, such as {{"gpu": 1}}, got {given!r}')
    return {_checked_name(name, what): checked_amount(name, amount, what) for name, amount in given.items()}


def _checked_name(name: Any, what: str) -> str:
    checked = check_name(name, f"a resource in {what}")
    if "=" in checked:
        raise ValueError(f"a resource in {what} must be a name without '=', got {name!r}")
    return checked


def checked_amount(name: str, amount: Any, what: str) -> int:
    """Refuse an invalid amount of a resource."""
    if isinstance(amount, bool) or not isinstance(amount, int) or not 1 <= amount <= MOST:
        raise ValueError(
            f"{what}: {name} must be a whole number from 1 to {MOST:,}, got {amount!r}; choose a unit in which it is "
            "one, and leave out what is not there"
        )
    return amount


def covers(offers: Mapping[str, int], uses: Mapping[str, int]) -> bool:
    """Whether these offers are enough for one run."""
    return all(offers.get(name, 0) >= amount for name, amount in uses.items())


def unmet(uses: Mapping[str, int], offered: Iterable[Mapping[str, int]]) -> str | None:
    """Return in words what a task asks for that none of these workers offers; None: one of them offers all of it."""
    known = list(offered)
    if not uses or any(covers(offers, uses) for offers in known):
        return None
    for name, amount in uses.items():
        most = max((offers.get(name, 0) for offers in known), default=0)
        if most < amount:
            return f"asks for {name}: {amount}; no running worker offers {f'more than {most}' if most else 'any of it'}"
    return f"asks for {amounts(uses)}; no running worker offers all of it together"


def asked_for(uses: Mapping[str, int]) -> str:
    """Return the options of `litequeue run` that offer what a task uses.

    >>> asked_for({"gpu": 1, "ram_mb": 4000})
    '--offer gpu=1 --offer ram_mb=4000'
    """
    return " ".join(f"--offer {name}={amount}" for name, amount in uses.items())


def amounts(resources: Mapping[str, int]) -> str:
    """Return amounts as text, as they are written on the command line.

    >>> amounts({"gpu": 2, "ram_mb": 16000})
    'gpu=2, ram_mb=16000'
    """
    return ", ".join(f"{name}={amount}" for name, amount in resources.items())
