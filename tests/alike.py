"""Which tests do the same on any Python, so that one Python runs them. Knows their files, not what they test.

What another version can break runs on it: the language and its libraries (units, names, typing, codecs, logging),
asyncio, threads, signals, forks and child processes, its own sqlite3, and each part of an engine on both drivers.
What is decided by SQL, by SQLite, by files, by text that we print or by our own sums does the same there.
"""

from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Below tests/.
ALIKE = (
    # The project itself: its pages, its code and its statements.
    "test_architecture.py",
    "test_benchmarks.py",
    "test_docs.py",
    "test_query_plans.py",
    # Statements, with hundreds of sets of parameters.
    "contract/test_*.py",
    # Sequences of calls drawn from a model, whose surprises are those of SQL.
    "model/*.py",
    # Files, and what else may happen to them.
    "test_damaged.py",
    "test_foreign_keys.py",
    "test_restored.py",
    "test_two_names.py",
    "test_wal_replaced.py",
    # Clocks that jump, which are ours.
    "test_clocks.py",
    # What the commands print. How they start, stop and hear signals is in test_stops.py and test_supervisor.py.
    "test_cli*.py",
    # What the kernel does.
    "test_children_limits.py",
    "test_fork_in_c.py",
    "test_locks.py",
)
# But how connections are shared, copied, interrupted and used by several threads is a matter of Python's sqlite3.
UNLIKE = (
    "contract/test_store_backup.py",
    "contract/test_store_foreign.py",
    "contract/test_store_interrupted.py",
    "contract/test_store_sqlalchemy.py",
    "contract/test_store_transactions.py",
    "contract/test_store_writer.py",
)
BOTH_DRIVERS = "contract/engine/"  # elsewhere apsw, which brings its own SQLite, does what it does on any Python


def alike(item: pytest.Item) -> bool:
    """Return whether the main Python alone runs it."""
    path = item.path.relative_to(TESTS).as_posix()
    if path not in UNLIKE and any(fnmatch(path, pattern) for pattern in ALIKE):
        return True
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("driver") == "apsw" and not path.startswith(BOTH_DRIVERS)
