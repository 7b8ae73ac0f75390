"""Warnings that name the line of the application which called litequeue, and the module of that line."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_PACKAGE = __name__.partition(".")[0]


def calling_frame() -> FrameType:
    """Return the innermost frame that is not ours: that of the application which called."""
    return _caller()[0]


def calling_module() -> str:
    """Return the name of the module of the application that called."""
    return str(_caller()[0].f_globals.get("__name__", ""))


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the line of the application that called; Python shows it once for each such line."""
    warnings.warn(text, category, stacklevel=_caller()[1])


def _caller() -> tuple[FrameType, int]:
    """Return the innermost frame that is not ours, or the outermost of all, and its level for our caller's warnings."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001  inspect.currentframe() is this, and slow to import
    while str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE and frame.f_back is not None:
        frame = frame.f_back
        level += 1
    return frame, level
