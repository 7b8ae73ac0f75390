"""What a child process is told first: what it needs of this one to import the application as this one did."""

from __future__ import annotations

import sys

from litequeue.children.log_records import levels
from litequeue.children.main_module import preparation
from litequeue.children.messages import Found, Setup
from litequeue.core.around_jobs import prepared_by


def first_message(tasks: tuple[Found, ...], place: str, *, tells_memory: bool) -> Setup:
    """Return it, for these tasks of a queue whose file is `place`."""
    return Setup(
        path=tuple(each for each in sys.path if isinstance(each, str)),
        argv=tuple(sys.argv),
        main=preparation() if any(each.module == "__main__" for each in tasks) else None,
        prepare=tuple(prepared_by),
        tasks=tasks,
        levels=levels(),
        place=place,
        tells_memory=tells_memory,
    )
