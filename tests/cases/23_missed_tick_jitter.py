"""A nightly tick is missed while nothing runs, and the release that starts next has another jitter in the schedule.

catch_up="one" promises one job for what was missed. It is enqueued only if the trigger's text stayed as it was.
"""

import subprocess
import sys
import tempfile
import time

RELEASE = """
import sys, time
from litequeue import Queue, every
queue = Queue("app.db")
@queue.task(schedule=every("3s", jitter=float(sys.argv[1])))
def nightly() -> None: ...
with queue.worker(threads=1):
    time.sleep(1)
print(len(queue.jobs()))
"""


def jobs_after(first_jitter: str, next_jitter: str) -> str:
    folder = tempfile.mkdtemp()
    for jitter, down in ((first_jitter, 4), (next_jitter, 0)):
        command = [sys.executable, "-c", RELEASE, jitter]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=15)
        time.sleep(down)  # the tick comes, and nobody is there
    return "caught up" if int(done.stdout) else "lost"


unchanged, changed = jobs_after("0", "0"), jobs_after("0", "0.01")
print(f"got: the missed tick is {unchanged} with the same jitter, {changed} with another one")
print("right: the missed tick is caught up with the same jitter, caught up with another one")
sys.exit((unchanged, changed) != ("caught up", "caught up"))
