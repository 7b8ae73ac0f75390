"""Which process holds the write lock, by /proc/locks."""

import os

import pytest

from litequeue.sqlite.file import lock_holder


@pytest.fixture
def held_here(tmp_path, monkeypatch):
    (tmp_path / "app.db-shm").touch()
    status = os.stat(tmp_path / "app.db-shm")
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    monkeypatch.setattr(lock_holder, "LOCKS", tmp_path / "locks")

    def look(text):
        (tmp_path / "locks").write_text(text.format(me=os.getpid(), place=place))
        return lock_holder.held_here(str(tmp_path / "app.db"))

    return look


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1: POSIX  ADVISORY  WRITE {me} {place} 120 120", True),
        ("1: POSIX  ADVISORY  WRITE {me} {place} 0 EOF", True),
        ("1: POSIX  ADVISORY  WRITE 1 {place} 120 120", False),  # another process
        ("1: POSIX  ADVISORY  WRITE 0 {place} 120 120", False),  # one of another pid namespace
        ("1: POSIX  ADVISORY  READ {me} {place} 120 120", False),
        ("1: POSIX  ADVISORY  WRITE {me} {place} 121 121", False),  # the checkpoint's
        ("1: POSIX  ADVISORY  WRITE {me} 00:01:2 120 120", False),  # another file
        ("1: -> POSIX  ADVISORY  WRITE {me} {place} 120 120", False),  # it waits for it
        ("1: FLOCK  ADVISORY  WRITE {me} {place} 0 EOF", False),
        ("", False),
    ],
)
def test_the_holder_of_the_write_lock_is_told_by_its_line(held_here, line, expected):
    assert held_here(f"{line}\n2: LEASE BREAKING READ 7 08:01:3 0 EOF\n") is expected


def test_nothing_is_told_where_there_is_no_such_list(held_here, monkeypatch, tmp_path):
    held_here("")
    monkeypatch.setattr(lock_holder, "LOCKS", tmp_path / "none")
    assert lock_holder.held_here(str(tmp_path / "app.db")) is False
