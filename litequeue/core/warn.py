"""Warn of a line of the application. Knows nothing of what the warning says."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_PACKAGE = __name__.partition(".")[0]


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the line of the application that called; Python shows it once for each such line."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    level = 1
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE:
        frame = frame.f_back
        level += 1
    warnings.warn(text, category, stacklevel=level)
