import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from litequeue.doorbell import Bell, Ear

DEADLINE = 10
HEARER = """
import sys
from pathlib import Path
from litequeue.doorbell import Ear
ear = Ear(Path(sys.argv[1]), "jobs")
print("listening", flush=True)
print(ear.wait(10), flush=True)
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
def bell(directory):
    made = Bell(directory, "jobs", Hand())
    yield made
    made.close()


@pytest.fixture(params=["unix", "loopback"])
def ear(request, directory):
    made = Ear(directory, "jobs", loopback=request.param == "loopback")
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
        try:
            os._exit(0 if function() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_ring_reaches_an_ear_with_its_message(bell, ear):
    bell.ring(b"job 42")
    assert ear.wait(DEADLINE) == [b"job 42"]


def test_a_ring_without_a_message_is_a_plain_wake(bell, ear):
    bell.ring()
    assert ear.wait(DEADLINE) == [b""]


def test_a_message_of_sixty_thousand_bytes_arrives_whole(bell, ear):
    bell.ring(b"x" * 60_000)
    assert ear.wait(DEADLINE) == [b"x" * 60_000]
    assert not ear.missed


def test_wait_returns_nothing_when_the_time_is_up(ear):
    assert ear.wait(0) == []
    assert ear.wait(0.001) == []
    assert ear.wait(-1) == []


def test_an_ear_rings_for_itself_once_because_bells_that_have_just_looked_do_not_know_it(directory, ear):
    hand = Hand()
    bell = Bell(directory, "jobs", hand)
    bell.ring()
    hand.step = 0.0
    assert ear.wait(DEADLINE) == [b""]
    new = Ear(directory, "jobs")
    bell.ring(b"unheard")
    assert new.wait(0) == []
    assert new.wait(0.001) == []
    assert new.wait(DEADLINE) == [b""]
    assert new.missed
    hand.step = 1.0
    bell.ring(b"heard")
    assert new.wait(DEADLINE) == [b"heard"]
    assert not new.missed
    assert new.wait(0.02) == []
    new.close()
    bell.close()


def test_what_an_ear_hears_at_its_start_does_not_stand_for_its_own_ring(bell, ear):
    bell.ring(b"heard")
    assert ear.wait(DEADLINE) == [b"heard"]
    assert ear.wait(DEADLINE) == [b""]
    assert ear.missed
    assert ear.wait(0.02) == []


def test_one_wait_takes_all_that_came_meanwhile(bell, ear):
    bell.ring(b"1")
    bell.ring(b"2")
    bell.ring(b"3")
    assert ear.wait(DEADLINE) == [b"1", b"2", b"3"]
    assert ear.wait(0) == []


def test_a_ring_reaches_every_ear_of_its_topic_and_no_other(bell, directory, ear):
    second, other = Ear(directory, "jobs"), Ear(directory, "jobs_done")
    bell.ring(b"all")
    assert [ear.wait(DEADLINE), second.wait(DEADLINE), other.wait(0)] == [[b"all"], [b"all"], []]
    second.close()
    other.close()


def test_a_ring_reaches_an_ear_in_another_process(bell, hearer):
    bell.ring(b"from afar")
    assert hearer.communicate(timeout=DEADLINE)[0] == "[b'from afar']\n"


def test_a_wake_before_the_wait_is_not_lost(ear):
    ear.wake()
    assert ear.wait(DEADLINE) == [b""]
    assert ear.wait(0) == []


def test_a_wake_ends_a_wait_in_another_thread(ear):
    heard = []
    thread = in_thread(lambda: heard.append(ear.wait(None)))
    ear.wake()
    thread.join(DEADLINE)
    assert heard == [[b""]]


def test_no_wake_of_thousands_is_lost_or_doubled(ear):
    turns, heard = threading.Semaphore(0), []

    def listen():
        for _ in range(3000):
            heard.append(ear.wait(DEADLINE))
            turns.release()

    thread = in_thread(listen)
    for _ in range(3000):
        ear.wake()
        assert turns.acquire(timeout=DEADLINE)
    thread.join(DEADLINE)
    assert heard == [[b""]] * 3000


def test_a_wake_from_a_signal_handler_ends_the_wait(ear):
    before = signal.signal(signal.SIGUSR1, lambda *_: ear.wake())
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    assert ear.wait(DEADLINE) == [b""]
    timer.join()
    signal.signal(signal.SIGUSR1, before)


def test_a_wake_sends_nothing_when_nobody_waits(ear):
    ear.wake()
    assert select.select([ear._socket], [], [], 0) == ([], [], [])


def test_an_ear_too_full_for_every_ring_tells_that_it_missed_some(bell, ear):
    for number in range(30):
        bell.ring(str(number).encode())
    ear.wait(DEADLINE)
    assert ear.missed
    bell.ring(b"again")
    assert ear.wait(DEADLINE) == [b"again"]
    assert not ear.missed


def test_large_messages_that_fill_the_sender_are_missed_too(bell, ear):
    for _ in range(30):
        bell.ring(b"x" * 60_000)
    assert len(ear.wait(DEADLINE)) < 30
    assert ear.missed


def test_an_ear_that_sleeps_full_keeps_no_other_from_hearing(bell, directory, ear):
    other = Ear(directory, "jobs")
    for _ in range(30):
        bell.ring(b"x" * 60_000)
        assert other.wait(DEADLINE) == [b"x" * 60_000]
    other.close()


def test_a_ring_where_no_directory_is_does_nothing_and_makes_none(bell, directory):
    bell.ring(b"anyone?")
    assert not directory.exists()


def test_an_ear_made_later_is_found_even_within_one_tick_of_the_file_system(bell, directory):
    for _ in range(100):
        ear = Ear(directory, "jobs")
        bell.ring(b"x")
        assert ear.wait(0) == [b"x"]
        ear.close()


def test_a_settled_listing_is_not_read_again_until_the_directory_changes(bell, directory):
    directory.mkdir()
    bell.ring()
    bell._monotonic.now += 0.03
    bell.ring()
    assert bell._settled
    ear = Ear(directory, "jobs")
    bell.ring()
    assert not bell._settled
    ear.close()


def test_a_closed_ear_is_gone_from_the_directory_and_the_bell(bell, directory, ear):
    bell.ring()
    ear.close()
    ear.close()
    bell.ring()
    assert (os.listdir(directory), bell._ears) == ([], {})
    with pytest.raises(ValueError, match="closed"):
        ear.wait(0)


@pytest.mark.parametrize("known", [True, False], ids=["rung before", "never rung"])
def test_an_ear_whose_process_was_killed_is_forgotten_and_swept_away(bell, directory, hearer, known):
    if known:
        bell.ring()
    hearer.send_signal(signal.SIGKILL)
    hearer.wait(DEADLINE)
    bell.ring()
    assert (os.listdir(directory), bell._ears) == ([], {})


def test_a_closed_loopback_ear_that_left_its_marker_is_swept_away(bell, directory):
    ear = Ear(directory, "jobs", loopback=True)
    ear._forsake()
    bell.ring()
    bell.ring()
    assert os.listdir(directory) == []


def test_a_stranger_on_the_loopback_port_is_not_heard(directory):
    ear = Ear(directory, "jobs", loopback=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"job 42", ear._socket.getsockname())
    Bell(directory, "jobs", Hand()).ring(b"job 7")
    assert ear.wait(DEADLINE) == [b"job 7"]
    assert ear.wait(0) == []
    ear.close()


@pytest.mark.skipif(sys.platform != "linux", reason="binds through /proc")
def test_a_path_too_long_for_a_socket_works_without_loopback(tmp_path):
    directory = tmp_path / ("long" * 40)
    ear, bell = Ear(directory, "jobs"), Bell(directory, "jobs", Hand())
    bell.ring(b"far down")
    assert ear.wait(DEADLINE) == [b"far down"]
    ear.wake()
    assert ear.wait(DEADLINE) == [b""]
    assert [Path(name).suffix for name in os.listdir(directory)] == [".sock"]
    ear.close()


def test_what_is_not_an_ear_is_left_alone(bell, directory, ear):
    (directory / "jobs-notes.txt").write_text("mine")
    (directory / "jobs-0123456789abcdef.sock").write_text("no socket")
    bell.ring(b"x")
    assert ear.wait(DEADLINE) == [b"x"]
    assert len(os.listdir(directory)) == 3


@pytest.mark.parametrize("name", ["jobs-notes.udp", "jobs-a-b.udp", "jobs-a-99999.udp"])
def test_a_marker_that_names_no_port_does_not_stop_the_ring(bell, directory, ear, name):
    (directory / name).touch()
    bell.ring(b"x")
    assert ear.wait(DEADLINE) == [b"x"]


def test_a_topic_that_could_be_mistaken_for_another_is_refused(directory):
    with pytest.raises(ValueError, match="topic must be"):
        Ear(directory, "jobs-done")


def test_a_forked_child_has_no_ear_of_its_parent_and_leaves_the_name(bell, ear):
    def child():
        ear.close()
        with pytest.raises(ValueError, match="closed"):
            ear.wait(0)
        return True

    assert in_child(child)
    bell.ring(b"still here")
    assert ear.wait(DEADLINE) == [b"still here"]


def test_a_forked_child_rings_and_hears_for_itself(bell, directory, ear):
    bell.ring()
    assert ear.wait(DEADLINE) == [b""]

    def child():
        mine = Ear(directory, "jobs")
        bell.ring(b"from the child")
        return mine.wait(DEADLINE) == [b"from the child"]

    assert in_child(child)
    assert ear.wait(DEADLINE) == [b"from the child"]


def test_a_fork_closes_nothing_on_behalf_of_an_ear_closed_before(directory):
    ear = Ear(directory, "jobs", loopback=True)
    descriptor = ear._place.marker
    ear.close()
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), descriptor)
    assert in_child(lambda: os.fstat(descriptor))
    os.close(descriptor)


def test_a_fork_while_another_thread_holds_the_locks_leaves_the_child_free(bell, ear):
    with bell._lock, ear._lock:
        thread_result = []
        thread = in_thread(lambda: thread_result.append(in_child(lambda: bell.ring(b"x") is None)))
        thread.join(DEADLINE)
    assert thread_result == [True]


def test_an_ear_and_a_bell_tell_their_state(bell, ear):
    bell.ring()
    assert repr(bell) == "<Bell jobs ears=1>"
    ear.wait(DEADLINE)
    ear.close()
    assert repr(ear).startswith("<Ear jobs-")
    assert repr(ear).endswith(" closed>")
