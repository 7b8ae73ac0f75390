"""Which tests `make thorough` runs and `make test` leaves out, where others of their kind are enough for each change.

Each takes seconds: a second web server set up otherwise, the other driver where SQL and Python have little to do with
what is tested, a benchmark that takes long however little it measures.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# The file below tests/, and what its tests are called.
THOROUGH = {
    # Servers: one of each kind, and each refusal, stay.
    "test_servers.py": (
        r"uwsgi_works_where_the_app_only_declares_its_queue\[sqlite3\]",
        r"uwsgi_with_lazy_apps",
        r"uwsgi_with_pythons_fork_hooks",
        r"uwsgi_with_the_childs_hook_alone",
        r"uwsgi_processes_harm_nothing",
        r"uwsgi_recycles",
        r"gunicorn_recycles",
        r"gunicorn_with_preload_.*\[gthread-sqlite3\]",
    ),
    # A program of one file, compressing which is most of it; and the other driver: the folder has the same program.
    "test_frozen.py": (r"of_one_file", r"\[sqlite3\]"),
    "test_benchmarks.py": (
        r"writes_its_figures\[(contention|overlap|processes|waits)\]",
        r"the_peers_benchmark_measures",
    ),
    "test_cases.py": (r"\[27_status_of_many_jobs\]",),  # 200,000 jobs; the steps of its statements are tested
    # Of the harnesses, what others of their scenarios come close to; `make torture` has all points of all.
    "faults/test_faults.py": (r"the_disk_fails\[(AtMostOnce|Change|EnqueueMany|GroupCommit|Prune)\]",),
    "power/test_power.py": (r"that_was_promised\[(AtMostOnce|Change|EnqueueMany|GroupCommit|Prune|Rescue)-full\]",),
    "crash/test_statements.py": (r"\[the other\]",),
    "crash/test_kill.py": (r"harms_no_other\[(exits|suicide)\]",),
    "crash/test_deaths.py": (r"with_catch_up_all", r"fires_no_tick_that_another"),
    "test_examples.py": (r"when_a_count_is_wrong\[(DELETE|INSERT|UPDATE summary SET files)",),
    # The moment decides, at which a signal, a fork, a death or an exchange of files comes, and one driver shows it.
    "test_signal_handlers.py": (r"\[apsw-first use-", r"amid_the_opening_of_another_.*\[apsw\]"),
    "test_fork.py": (r"while_another_thread_makes_a_queue_.*\[apsw\]",),
    "test_fork_in_c.py": (
        r"was_in_use_before_the_fork_.*\[apsw-",
        r"normal_end_closes_nothing_.*\[apsw-",
        r"outlives_its_parent_.*\[apsw-",
    ),
    "test_restored.py": (r"whenever_the_process_dies_.*\[(apsw-|sqlite3-move-)",),
    "test_wal_replaced.py": (
        r"a_worker_process_ends_with_an_error\[apsw-",
        r"the_next_processes_acknowledge_.*\[apsw-",
        r"the_end_of_a_process_takes_nothing_.*\[apsw-",
    ),
    "crash/test_upgrade.py": (
        r"every_command_refuses_.*\[apsw-",
        r"a_worker_of_the_older_release_.*\[apsw\]",
        r"a_migration_that_is_killed_.*\[apsw-",
    ),
    "test_worker_dispatch.py": (
        r"time_where_the_queues_clock_stands_still\[(apsw-apsw|sqlite3-apsw)\]",
        r"time_and_again\[apsw-",
    ),
    "test_clocks.py": (r"an_instant_comes_once\[apsw-", r"lives_through_a_jump_.*\[trigger1\]"),
}


def thorough(item: pytest.Item) -> bool:
    """Return whether `make test` leaves it out."""
    patterns = THOROUGH.get(item.path.relative_to(TESTS).as_posix(), ())
    return any(re.search(pattern, item.name) for pattern in patterns)
