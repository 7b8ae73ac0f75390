"""A full disk: callers are told, the worker waits for space and loses nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE"),
]


def starve(database, scene):
    command = [sys.executable, "-m", "tests.crash.starved", str(database), scene]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.endswith("sound\n"), ended.stderr
    return ended.stdout


def test_who_enqueues_on_a_full_disk_is_told_and_nothing_is_stored(database):
    assert "told: " in starve(database, "callers")


def test_a_worker_settles_what_has_ended_as_soon_as_there_is_space(database):
    starve(database, "worker")


def test_the_job_of_a_worker_that_left_a_full_disk_is_run_by_another(database):
    starve(database, "leave")
