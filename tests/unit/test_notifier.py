import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from litequeue.ipc.notifier import CROWDED, Listener, Notifier

DEADLINE = 10
HEARER = """
import sys
from pathlib import Path
from litequeue.ipc.notifier import Listener
listener = Listener(Path(sys.argv[1]), "jobs")
assert listener.wait(10) == [b""]  # its own, by which every listener begins
print("listening", flush=True)
print(listener.wait(10), flush=True)
"""


class Hand:
    """A monotonic clock moved by hand, which goes on by a second whenever it is asked, unless it stands."""

    now = 100.0
    step = 1.0

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "app.db-litequeue"


@pytest.fixture
def notifier(directory):
    made = Notifier(directory, "jobs", Hand())
    yield made
    made.close()


@pytest.fixture(params=["unix", "loopback"])
def listener(request, directory):
    made = Listener(directory, "jobs", loopback=request.param == "loopback")
    yield made
    made.close()


@pytest.fixture
def hearer(directory):
    process = subprocess.Popen([sys.executable, "-c", HEARER, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "listening\n"
    yield process
    process.kill()
    process.communicate()


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def in_child(function):
    """Run the function in a forked child; return whether it gave a true value."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(DEADLINE)
        try:
            os._exit(0 if function() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_notification_reaches_a_listener_with_its_message(notifier, listener):
    notifier.notify(b"job 42")
    assert listener.wait(DEADLINE) == [b"job 42"]


def test_a_notification_without_a_message_is_a_plain_wake(notifier, listener):
    notifier.notify()
    assert listener.wait(DEADLINE) == [b""]


def test_a_message_of_sixty_thousand_bytes_arrives_whole(notifier, listener):
    notifier.notify(b"x" * 60_000)
    assert listener.wait(DEADLINE) == [b"x" * 60_000]
    assert not listener.missed


def test_wait_returns_nothing_when_the_time_is_up(listener):
    assert listener.wait(0) == []
    assert listener.wait(0.001) == []
    assert listener.wait(-1) == []


def test_a_listener_notifies_itself_once_because_notifiers_that_have_just_looked_do_not_know_it(directory, listener):
    hand = Hand()
    notifier = Notifier(directory, "jobs", hand)
    notifier.notify()
    hand.step = 0.0
    assert listener.wait(DEADLINE) == [b""]
    new = Listener(directory, "jobs")
    notifier.notify(b"unheard")
    assert new.wait(0) == []
    assert new.wait(0.001) == []
    assert new.wait(DEADLINE) == [b""]
    assert new.missed
    hand.step = 1.0
    notifier.notify(b"heard")
    assert new.wait(DEADLINE) == [b"heard"]
    assert not new.missed
    assert new.wait(0.02) == []
    new.close()
    notifier.close()


def test_what_a_listener_hears_at_its_start_does_not_stand_for_its_own_notification(notifier, listener):
    notifier.notify(b"heard")
    assert listener.wait(DEADLINE) == [b"heard"]
    assert listener.wait(DEADLINE) == [b""]
    assert listener.missed
    assert listener.wait(0.02) == []


def test_one_wait_takes_all_that_came_meanwhile(notifier, listener):
    notifier.notify(b"1")
    notifier.notify(b"2")
    notifier.notify(b"3")
    assert listener.wait(DEADLINE) == [b"1", b"2", b"3"]
    assert listener.wait(0) == []


def test_a_notification_reaches_every_listener_of_its_topic_and_no_other(notifier, directory, listener):
    second, other = Listener(directory, "jobs"), Listener(directory, "jobs_done")
    notifier.notify(b"all")
    assert [listener.wait(DEADLINE), second.wait(DEADLINE), other.wait(0)] == [[b"all"], [b"all"], []]
    second.close()
    other.close()


def test_a_notification_reaches_a_listener_in_another_process(notifier, hearer):
    notifier.notify(b"from afar")
    assert hearer.communicate(timeout=DEADLINE)[0] == "[b'from afar']\n"


def test_a_wake_before_the_wait_is_not_lost(listener):
    listener.wake()
    assert listener.wait(DEADLINE) == [b""]
    assert listener.wait(0) == []


def test_a_wake_ends_a_wait_in_another_thread(listener):
    heard = []
    thread = in_thread(lambda: heard.append(listener.wait(None)))
    listener.wake()
    thread.join(DEADLINE)
    assert heard == [[b""]]


def test_no_wake_of_thousands_is_lost_or_doubled(listener):
    turns, heard = threading.Semaphore(0), []

    def listen():
        for _ in range(3000):
            heard.append(listener.wait(DEADLINE))
            turns.release()

    thread = in_thread(listen)
    for _ in range(3000):
        listener.wake()
        assert turns.acquire(timeout=DEADLINE)
    thread.join(DEADLINE)
    assert heard == [[b""]] * 3000


def test_a_wake_from_a_signal_handler_ends_the_wait(listener):
    before = signal.signal(signal.SIGUSR1, lambda *_: listener.wake())
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    assert listener.wait(DEADLINE) == [b""]
    timer.join()
    signal.signal(signal.SIGUSR1, before)


def test_a_wake_sends_nothing_when_nobody_waits(notifier, listener):
    """One message more, and the listener would take itself for crowded."""
    listener.wake()
    for _ in range(CROWDED - 1):
        notifier.notify(b"x")
    assert listener.wait(0) == [*[b"x"] * (CROWDED - 1), b""]
    assert not listener.missed


def test_a_listener_too_full_for_every_notification_tells_that_it_missed_some(notifier, listener):
    for number in range(30):
        notifier.notify(str(number).encode())
    listener.wait(DEADLINE)
    assert listener.missed
    notifier.notify(b"again")
    assert listener.wait(DEADLINE) == [b"again"]
    assert not listener.missed


def test_large_messages_that_fill_the_sender_are_missed_too(notifier, listener):
    for _ in range(30):
        notifier.notify(b"x" * 60_000)
    assert len(listener.wait(DEADLINE)) < 30
    assert listener.missed


def test_a_listener_that_sleeps_full_keeps_no_other_from_hearing(notifier, directory, listener):
    other = Listener(directory, "jobs")
    for _ in range(30):
        notifier.notify(b"x" * 60_000)
        assert other.wait(DEADLINE) == [b"x" * 60_000]
    other.close()


def test_a_notification_where_no_directory_is_does_nothing_and_makes_none(notifier, directory):
    notifier.notify(b"anyone?")
    assert not directory.exists()


def test_a_listener_made_later_is_found_even_within_one_tick_of_the_file_system(notifier, directory):
    for _ in range(100):
        listener = Listener(directory, "jobs")
        notifier.notify(b"x")
        assert listener.wait(0) == [b"x"]
        listener.close()


def test_a_settled_listing_is_not_read_again_until_the_directory_changes(notifier, directory, monkeypatch):
    listings, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listings.append(path) or listdir(path))
    directory.mkdir()
    for expected in (1, 2, 2, 2):  # a second apart
        notifier.notify()
        assert len(listings) == expected
    listener = Listener(directory, "jobs")
    notifier.notify()
    assert len(listings) == 3
    notifier.close()
    listener.close()


def test_a_closed_listener_is_gone_from_the_directory_and_the_notifier(notifier, directory, listener):
    notifier.notify()
    listener.close()
    listener.close()
    notifier.notify()
    assert (os.listdir(directory), repr(notifier)) == ([], "<Notifier jobs listeners=0>")
    with pytest.raises(ValueError, match="closed"):
        listener.wait(0)


@pytest.mark.parametrize("known", [True, False], ids=["notified before", "never notified"])
def test_a_listener_whose_process_was_killed_is_forgotten_and_swept_away(notifier, directory, hearer, known):
    if known:
        notifier.notify()
    hearer.send_signal(signal.SIGKILL)
    hearer.wait(DEADLINE)
    notifier.notify()
    assert (os.listdir(directory), repr(notifier)) == ([], "<Notifier jobs listeners=0>")


def test_a_closed_loopback_listener_that_left_its_marker_is_swept_away(notifier, directory):
    listener = Listener(directory, "jobs", loopback=True)
    marker = directory / listener.name
    content = marker.read_bytes()
    listener.close()
    marker.write_bytes(content)
    notifier.notify()
    notifier.notify()
    assert os.listdir(directory) == []


def test_a_stranger_on_the_loopback_port_is_not_heard(directory):
    listener = Listener(directory, "jobs", loopback=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        port = int(Path(listener.name).stem.rpartition("-")[2])
        assert stranger.sendto(b"job 42", ("127.0.0.1", port))
    Notifier(directory, "jobs", Hand()).notify(b"job 7")
    assert listener.wait(DEADLINE) == [b"job 7"]
    assert listener.wait(0) == []
    listener.close()


@pytest.mark.skipif(sys.platform != "linux", reason="binds through /proc")
def test_a_path_too_long_for_a_socket_works_without_loopback(tmp_path):
    directory = tmp_path / ("long" * 40)
    listener, notifier = Listener(directory, "jobs"), Notifier(directory, "jobs", Hand())
    notifier.notify(b"far down")
    assert listener.wait(DEADLINE) == [b"far down"]
    listener.wake()
    assert listener.wait(DEADLINE) == [b""]
    assert [Path(name).suffix for name in os.listdir(directory)] == [".sock"]
    listener.close()


def test_what_is_not_a_listener_is_left_alone(notifier, directory, listener):
    (directory / "jobs-notes.txt").write_text("mine")
    (directory / "jobs-0123456789abcdef.sock").write_text("no socket")
    notifier.notify(b"x")
    assert listener.wait(DEADLINE) == [b"x"]
    assert len(os.listdir(directory)) == 3


@pytest.mark.parametrize("name", ["jobs-notes.udp", "jobs-a-b.udp", "jobs-a-99999.udp"])
def test_a_marker_that_names_no_port_does_not_stop_the_ring(notifier, directory, listener, name):
    (directory / name).touch()
    notifier.notify(b"x")
    assert listener.wait(DEADLINE) == [b"x"]


def test_a_topic_that_could_be_mistaken_for_another_is_refused(directory):
    with pytest.raises(ValueError, match="topic must be"):
        Listener(directory, "jobs-done")


def test_a_forked_child_has_no_listener_of_its_parent_and_leaves_the_name(notifier, listener):
    def child():
        listener.close()
        with pytest.raises(ValueError, match="closed"):
            listener.wait(0)
        return True

    assert in_child(child)
    notifier.notify(b"still here")
    assert listener.wait(DEADLINE) == [b"still here"]


def test_a_forked_child_notifies_and_hears_for_itself(notifier, directory, listener):
    notifier.notify()
    assert listener.wait(DEADLINE) == [b""]

    def child():
        mine = Listener(directory, "jobs")
        notifier.notify(b"from the child")
        return mine.wait(DEADLINE) == [b"from the child"]

    assert in_child(child)
    assert listener.wait(DEADLINE) == [b"from the child"]


def test_a_fork_closes_nothing_on_behalf_of_a_listener_closed_before(directory):
    before = set(os.listdir("/dev/fd"))
    listener = Listener(directory, "jobs", loopback=True)
    its_own = [int(name) for name in set(os.listdir("/dev/fd")) - before]
    listener.close()
    with open(os.devnull, "rb") as other:
        for descriptor in its_own:
            os.dup2(other.fileno(), descriptor)
    assert in_child(lambda: len([os.fstat(descriptor) for descriptor in its_own]) > 1)
    for descriptor in its_own:
        os.close(descriptor)


def test_a_fork_while_another_thread_notifies_leaves_the_child_free(directory, listener):
    notifying, go, parent = threading.Event(), threading.Event(), os.getpid()

    def monotonic():
        if os.getpid() == parent:
            notifying.set()
            assert go.wait(DEADLINE)
        return 100.0

    notifier = Notifier(directory, "jobs", monotonic)
    thread = in_thread(lambda: notifier.notify(b"x"))
    assert notifying.wait(DEADLINE)
    assert in_child(lambda: notifier.notify(b"from the child") is None)
    go.set()
    thread.join(DEADLINE)
    notifier.close()


def test_a_listener_and_a_notifier_tell_their_state(notifier, listener):
    notifier.notify()
    assert repr(notifier) == "<Notifier jobs listeners=1>"
    listener.wait(DEADLINE)
    listener.close()
    assert repr(listener).startswith("<Listener jobs-")
    assert repr(listener).endswith(" closed>")
