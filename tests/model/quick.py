"""What every process of a simulation changes in the product: chunks small, refusals at once, no log."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from unittest import mock

from litequeue.sqlite.commit import fair_lock
from litequeue.sqlite.drivers import apsw_driver as driver_apsw
from litequeue.sqlite.drivers import sqlite3_driver as driver_sqlite3
from litequeue.sqlite.jobs import claim, control, lanes, settle

if TYPE_CHECKING:
    from collections.abc import Generator

CHUNK = 7  # rows, instead of 500: so that there is more than one


@contextmanager
def quickly(*, many_lanes: bool = False) -> Generator[None, None, None]:
    """With chunks small, refusals at once, and no log of what is meant to happen.

    `many_lanes`: two lanes are many already.
    """
    with ExitStack() as stack:
        if many_lanes:
            for module in (claim, lanes, settle):
                stack.enter_context(mock.patch.object(module, "FEW", 1))
        for module in (control, settle):
            stack.enter_context(mock.patch.object(module, "CHUNK", CHUNK))
        stack.enter_context(mock.patch.object(fair_lock, "PATIENCE", 0.0))
        for module in (driver_apsw, driver_sqlite3):
            stack.enter_context(mock.patch.object(module, "BUSY_SECONDS", 0.0))
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        yield
