import gc
import os
import subprocess
import sys
import threading

import pytest

from litequeue.core import frames

# Garbage is collected at every few allocations, some of them amid the looks, and holds locals of threads.
PROGRAM = """
import gc, threading
from litequeue.core.frames import current_frames

class Node:
    def __init__(self):
        self.itself, self.local = self, threading.local()
        self.local.value = 1

gc.set_threshold(5, 2, 2)
for _ in range(20_000):
    Node()
    current_frames()
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_amid_the_look_of_another_thread_leaves_nothing_paused_in_the_copy():
    program = """
import gc, os, sys, threading
from litequeue.core import frames

amid, over = threading.Event(), threading.Event()
looks = sys._current_frames

def slowly():
    sys._current_frames = looks
    amid.set()
    over.wait()
    return looks()

sys._current_frames = slowly
threading.Thread(target=frames.current_frames).start()
amid.wait()
copy = os.fork()
if not copy:
    os._exit(0 if gc.isenabled() and frames.current_frames() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]))
over.set()
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ran.stdout == "0\n", ran.stderr


def test_a_ctrl_c_amid_a_look_pauses_nothing_for_longer_than_to_the_next(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(frames.gc, "enable", lambda: None)  # as where it comes just before
        patched.setattr(frames, "_is_paused", False)
        frames.current_frames()
    monkeypatch.setattr(frames, "_is_paused", True)
    assert not gc.isenabled()
    frames.current_frames()
    assert gc.isenabled()
