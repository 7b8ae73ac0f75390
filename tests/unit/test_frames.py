import gc
import subprocess
import sys
import threading

import pytest

from litequeue.core import frames

# Threads that come and go while garbage is collected at nearly every allocation, some of it locals of threads.
PROGRAM = """
import gc, sys, threading
from litequeue.core.frames import current_frames

class Node:
    def __init__(self):
        self.itself, self.local = self, threading.local()
        self.local.value = 1

def litter(over):
    while not over.is_set():
        [Node() for _ in range(10)]

over = threading.Event()
threads = [threading.Thread(target=litter, args=(over,), daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
gc.set_threshold(5, 2, 2)
for _ in range(20_000):
    current_frames()
over.set()
print(gc.isenabled())
"""


def test_garbage_that_is_collected_amid_a_look_does_not_stop_the_program():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=False)
    assert (ran.stdout, ran.returncode) == ("True\n", 0), ran.stderr


@pytest.mark.parametrize("collects", [True, False])
def test_collecting_goes_on_as_it_was(collects):
    was = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        assert frames.current_frames()[threading.get_ident()].f_code.co_name == "current_frames"
        assert gc.isenabled() == collects
    finally:
        (gc.enable if was else gc.disable)()
