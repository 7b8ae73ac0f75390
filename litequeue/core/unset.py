"""The value of an option that was not given, where None has a meaning of its own. Knows no option."""

from __future__ import annotations

from typing import Final


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
