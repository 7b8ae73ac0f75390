"""Which tests do the same on any Python, so that one Python runs them. Knows their files, not what they test.

What another version can break runs on it: the language and its libraries (units, names, typing, codecs, logging),
asyncio, threads, signals, forks, what crosses to child processes, and its own sqlite3.
What is decided by SQL, by SQLite, by files, by the kernel, by printed text or by our own sums does the same.
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
    # Clocks that jump, which are ours, and a slow walk through the years.
    "test_clocks.py",
    "unit/test_cron_ticks.py",
    # What the commands print.
    "test_cli*.py",
    # What the kernel does: how processes are started, signalled and end. What runs in them is in other files.
    "test_children_ends.py",
    "test_children_limits.py",
    "test_children_programs.py",
    "test_children_races.py",
    "test_children_starts.py",
    "test_children_stops.py",
    "test_fork_in_c.py",
    "test_locks.py",
    "test_reload.py",
    "test_several_apps.py",
    "test_stops.py",
    "test_supervisor.py",
    # Inputs drawn at random, of which the tests of each decoder have the known ones.
    "fuzz/test_*.py",
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


def is_alike(path: Path) -> bool:
    """Return whether the main Python alone runs all of a file."""
    name = path.relative_to(TESTS).as_posix()
    return name not in UNLIKE and any(fnmatch(name, pattern) for pattern in ALIKE)


def alike(item: pytest.Item) -> bool:
    """Return whether the main Python alone runs it: also where both drivers are tried, with apsw, which is the same."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return is_alike(item.path) or "apsw" in parameters
