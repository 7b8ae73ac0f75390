"""Turn what users write for sizes into bytes. Knows no memory and no file."""

from __future__ import annotations

import re

_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)}
_UNITS |= {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)}
_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")
_EXAMPLES = 'text such as "500MB" or "1.5GiB", or a number of bytes'
LARGEST = 2**60


def size(value: int | str, what: str = "size") -> int:
    """Return a size in bytes.

    `value` is a number of bytes, or text with a unit: `B kB MB GB TB` count in thousands, `KiB MiB GiB TiB` in 1024s.
    `what` names the option in errors. Raises `TypeError` for what is no size at all, `ValueError` for one that is not
    positive, too large or not understood.

    >>> size("500MB")
    500000000
    >>> size("1.5KiB")
    1536
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f"{what} must be a size, got {value!r}; write {_EXAMPLES}")
    count = value if isinstance(value, int) else _parsed(value, what)
    if not 1 <= count <= LARGEST:
        raise ValueError(f"{what} must be from 1 byte to 1 EiB, got {value!r}; write {_EXAMPLES}")
    return count


def _parsed(value: str, what: str) -> int:
    found = _TEXT.fullmatch(value.lower())
    if found is None:
        raise ValueError(f"{what} is not a size: {value!r}; write {_EXAMPLES}")
    amount, unit = found.groups()
    if unit in ("k", "m", "g", "t"):  # some programs count these in thousands, others in 1024s
        raise ValueError(
            f"{what} has a unit that may mean two sizes: {value!r}; write {amount}{unit.upper()}B (thousands) or "
            f"{amount}{unit.upper()}iB (1024s)"
        )
    if unit not in _UNITS:
        raise ValueError(f"{what} has an unknown unit: {value!r}; write {_EXAMPLES}")
    return int(float(amount) * _UNITS[unit])
