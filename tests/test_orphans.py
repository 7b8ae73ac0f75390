"""A supervisor that is PID 1, or inherits orphans otherwise, reaps them; and never takes its own children's codes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crash.watching import until
from litequeue import Queue
from litequeue.worker.orphans import inherits_orphans

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc")

SUBREAPER = "import ctypes; assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0\n"

APP = """
import os, time
from pathlib import Path
from litequeue import Queue

queue = Queue("app.db", durability="normal")

@queue.task
def leaves_a_process_behind() -> None:
    child = os.fork()
    if child == 0:
        if os.fork():
            os._exit(0)
        while not Path("gate").exists():
            time.sleep(0.01)
        os._exit(3)
    os.waitpid(child, 0)
"""

REAPS = f"""
{SUBREAPER}
import os, sys, subprocess, time
from litequeue.worker.orphans import inherits_orphans, reap_orphans
assert inherits_orphans()
sys.stdin.close()
own = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(7)"])
gone = subprocess.run(["sh", "-c", "sh -c 'exit 5' & sh -c 'exit 6' &"], check=True)
reaped = 0
while reaped < 2:
    reaped += reap_orphans({{own.pid}})
    if reaped < 2 and os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        break  # that one is in the way until it is taken
    time.sleep(0.01)
print(own.wait())
while reaped < 2:
    reaped += reap_orphans(set())
    time.sleep(0.01)
print(reaped, reap_orphans(set()))
"""


def test_this_process_inherits_no_orphans():
    assert not inherits_orphans()


def test_orphans_are_reaped_and_the_exit_code_of_a_child_is_left_to_those_who_wait_for_it():
    ran = subprocess.run([sys.executable, "-c", REAPS], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "7\n2 0\n"


def children_of(pid):
    paths = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for path in paths for child in path.read_text().split()}


@pytest.mark.slow
def test_a_supervisor_reaps_the_processes_that_jobs_left_behind(tmp_path):
    """As process 1 of a namespace, as in a container, or where none can be made, as one that has asked for orphans."""
    namespace = ["unshare", "--pid", "--fork", "--kill-child"]
    try:
        is_process_1 = subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_process_1 = False
    asks = [sys.executable, "-c", f"{SUBREAPER}import os, sys; os.execv(sys.argv[1], sys.argv[1:])"]
    before = namespace if is_process_1 else asks
    command = [*before, sys.executable, "-m", "litequeue", "run", "app:queue", "--processes", "1"]
    (tmp_path / "app.py").write_text(APP)
    with Queue(tmp_path / "app.db", durability="normal") as queue:
        job = queue.task(name="leaves_a_process_behind")(lambda: None).enqueue()
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            supervisor = process.pid
            try:
                job.result(timeout=30)
                if is_process_1:
                    [supervisor] = children_of(process.pid)
                until(lambda: len(children_of(supervisor)) == 2)  # the worker, and what its job left
                (tmp_path / "gate").touch()
                until(lambda: len(children_of(supervisor)) == 1)
            finally:
                os.kill(supervisor, signal.SIGTERM)
