"""What one worker has for its jobs, besides threads and coroutines. A value; what is free of it the store works out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Capacity(NamedTuple):
    """How many jobs of a queue run at once, where that is bounded, and the resources that the worker offers.

    `present`: runs in its process, as (id, attempt, queue, task), which take of it whatever the file says of them.
    """

    slots: Mapping[str, int]
    offers: Mapping[str, int]
    present: Sequence[tuple[str, int, str, str]] = ()
