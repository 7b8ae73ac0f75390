"""What PyInstaller adds to a program that imports litequeue, and does not see by itself. Read by PyInstaller alone."""

from __future__ import annotations

from importlib.util import find_spec

from PyInstaller.utils.hooks import collect_data_files, collect_entry_point

OPTIONAL = ("psutil", "tzdata")  # used where they are installed: the latter, where the system has no time zones

_engines, _engine_modules = collect_entry_point("litequeue.engines")  # a queue may be given an engine by its name

datas = [*collect_data_files("litequeue", includes=["**/*.sql"]), *_engines]
hiddenimports = [
    "litequeue.worker.child.main",  # the program of a child process, which only rthooks/ names
    *(name for name in OPTIONAL if find_spec(name) is not None),
    *_engine_modules,
]
