"""The options of tasks that say when a run is stopped, and in which process it is, checked. Knows no process."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from litequeue.core.duration import seconds, text

SHORTEST_SILENCE = 0.1  # seconds: a busy machine keeps a function silent for that long


def checked_flag(value: Any, what: str) -> bool:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, got {value!r}")
    return value


def soft_timeout(given: Mapping[str, Any]) -> float | None:
    """Return the option of a task in seconds; refuse one that could never act."""
    soft, timeout = given.get("soft_timeout"), given.get("timeout")
    if soft is None:
        return None
    found = seconds(soft, "soft_timeout")
    if found <= 0:
        raise ValueError(f"soft_timeout must be positive, got {soft!r}")
    if not given.get("process"):
        raise ValueError(
            f"soft_timeout={soft!r} needs process=True, where timeout= kills; elsewhere timeout= itself raises "
            f"JobTimeout in the function, so give that"
        )
    if isinstance(timeout, (int, float, str, timedelta)) and seconds(timeout, "timeout") <= found:
        raise ValueError(f"soft_timeout={soft!r} must be less than timeout={timeout!r}, at which the process is killed")
    return found


def heartbeat_timeout(given: Mapping[str, Any]) -> float | None:
    """Return the option of a task in seconds."""
    within = given.get("heartbeat_timeout")
    if within is None:
        return None
    found = seconds(within, "heartbeat_timeout")
    if found < SHORTEST_SILENCE:
        raise ValueError(f"heartbeat_timeout must be at least {text(SHORTEST_SILENCE)}, got {within!r}")
    return found


def check_soft_timeout(soft: float | None, timeout: float | None, default: float) -> None:
    """Refuse a soft limit that the queue's own limit would come before, of a task that has none."""
    if soft is not None and timeout is None and soft >= default:
        raise ValueError(
            f"soft_timeout must be less than the limit at which the process is killed: that is the queue's timeout, "
            f"{text(default)}, for the task has none; give it timeout="
        )
