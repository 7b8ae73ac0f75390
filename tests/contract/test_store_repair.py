"""What `litequeue doctor --repair` does to a file, and why it does not."""

import pytest

from contract.jobs import put
from litequeue import StoreBusy, StoreError
from litequeue.sqlite.admin import repair


def impatiently(db):
    db.rows("PRAGMA busy_timeout = 20")
    return repair.rebuild(db)


def test_a_file_that_is_locked_is_not_taken_for_a_damaged_one(store, connect):
    put(store)
    connect().execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        store.admin.repair(impatiently)


class Full:
    """A connection to a file on a disk that is full: what writes fails."""

    def __init__(self, db):
        self.db = db

    def __getattr__(self, name):
        return getattr(self.db, name)

    def script(self, sql):
        raise StoreError("the disk is full")


def test_what_keeps_a_file_from_being_built_anew_is_told(store):
    put(store)
    with pytest.raises(StoreError, match="the disk is full"):
        store.admin.repair(lambda db: repair.rebuild(Full(db)))
