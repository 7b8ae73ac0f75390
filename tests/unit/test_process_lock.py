import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from litequeue.ipc.process_identity import Identity, alive, cpu_seconds
from litequeue.ipc.process_lock import (
    ANY,
    KEPT,
    RECORD,
    TAIL,
    ProcessLock,
    directory_of,
    noted,
    open_directory,
    take,
    tokens,
    told,
)

DEADLINE = 10
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
WORKER = """
import sys
from pathlib import Path
from litequeue.ipc.process_identity import Identity
from litequeue.ipc.process_lock import ProcessLock
line = ProcessLock(Path(sys.argv[1]), "worker", 8)
line.enter(0, "41:1")
line.enter(1, "42:3")
line.enter(7, "43:2")
line.leave(0)
"""
# One write a line: two processes share the pipe, and print() writes text and line end apart when unbuffered.
STAY = "\nimport os; os.write(1, Identity.current().to_text().encode() + b'\\n'); sys.stdin.read()"
FORK = "\nimport os\nif os.fork() == 0:\n    os.write(1, b'child ready\\n'); sys.stdin.read(); os._exit(0)"
HALF_MADE = """
import fcntl, sys
file = open(sys.argv[1] + "/half.tmp", "x")
fcntl.flock(file, fcntl.LOCK_EX)
print("ready", flush=True); sys.stdin.read()
"""


class Process:
    """A real process that runs the code until it is killed; `said` is its first line."""

    def __init__(self, code, directory):
        command = [sys.executable, "-c", code, str(directory)]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = self.hear()

    def hear(self):
        return self.popen.stdout.readline().strip()

    def kill(self):
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(DEADLINE)


@pytest.fixture
def directory(tmp_path):
    return open_directory(tmp_path / "app.db")


@pytest.fixture
def start(directory):
    started = []

    def start(code):
        started.append(Process(code, directory))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.communicate()


@pytest.fixture
def line(directory):
    made = ProcessLock(directory, "mine", 4)
    yield made
    made.close()


def test_the_directory_is_beside_the_database_and_for_its_owner_alone(tmp_path):
    directory = open_directory(tmp_path / "app.db")
    assert directory == tmp_path / "app.db-litequeue" == open_directory(tmp_path / "app.db")
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_link_to_the_database_leads_to_the_same_directory(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "app.db")
    assert directory_of(tmp_path / "link.db") == directory_of(tmp_path / "app.db")


def test_a_directory_made_by_root_belongs_to_the_owner_of_the_database(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    (tmp_path / "app.db").touch()
    os.chown(tmp_path / "app.db", 1234, 1235)
    made = open_directory(tmp_path / "app.db").stat()
    assert (made.st_uid, made.st_gid) == (1234, 1235)


def test_a_killed_process_leaves_the_runs_it_was_executing(directory, start):
    start(WORKER + STAY).kill()
    dead_process = take(directory, "worker")
    assert dead_process.executing == {"42:3", "43:2"}
    assert not dead_process.missing
    dead_process.reap()
    assert tokens(directory) == []


def test_a_stop_that_was_noted_is_seen_after_the_death_and_before_it(directory, start):
    for token, code in (("worker", "line.note_stop()"), ("other", "")):
        process = start(WORKER.replace('"worker"', repr(token)) + code + STAY)
        assert told(directory, token) is bool(code)
        process.kill()
        dead_process = take(directory, token)
        assert (dead_process.told, dead_process.executing) == (bool(code), {"42:3", "43:2"})
        dead_process.reap()


def test_a_stop_that_was_noted_stays_when_the_lock_is_let_go_as_by_a_death(directory, line):
    line.enter(0, "41:1")
    line.note_stop()
    line.abandon(["42:1"])
    dead_process = take(directory, "mine")
    assert (dead_process.told, dead_process.executing) == (True, {"42:1"})
    dead_process.reap()
    line.note_stop()  # too late, and no error


def test_signals_written_to_the_file_are_stops_or_nothing(directory, line):
    """As the interpreter writes them: one byte each, of the signal's number."""
    line.enter(3, "41:1")
    descriptor = line.signal_descriptor()
    os.write(descriptor, bytes([signal.SIGUSR1, signal.SIGCHLD]) * 100)
    assert not told(directory, "mine")
    os.write(descriptor, bytes([signal.SIGTERM]))
    os.close(descriptor)
    assert told(directory, "mine")
    assert noted(directory, "mine") == {"41:1"}


def test_a_living_process_cannot_be_taken(directory, start):
    start(WORKER + STAY)
    assert take(directory, "worker") is None
    assert tokens(directory) == ["worker"]


def test_a_stopped_process_is_not_dead(directory, start):
    process = start(WORKER + STAY)
    process.popen.send_signal(signal.SIGSTOP)
    assert take(directory, "worker") is None


def test_a_zombie_can_be_taken_before_anyone_reaps_it(directory, start):
    process = start(WORKER + STAY)
    process.popen.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOWAIT)
    dead_process = take(directory, "worker")
    assert dead_process.executing == {"42:3", "43:2"}
    dead_process.release()


def test_ones_own_living_process_lock_cannot_be_taken(directory, line):
    assert take(directory, "mine") is None


@pytest.mark.parametrize("killed_by", [signal.SIGKILL, signal.SIGSEGV])
def test_a_forked_child_does_not_keep_its_parents_lock(directory, start, killed_by):
    process = start(WORKER + FORK + STAY)
    assert {process.said, process.hear()} > {"child ready"}
    process.popen.send_signal(killed_by)
    process.popen.wait(DEADLINE)
    dead_process = take(directory, "worker")
    assert dead_process.executing == {"42:3", "43:2"}
    dead_process.reap()


def test_a_forked_childs_end_frees_nothing_of_its_parents(directory, line):
    pid = os.fork()
    if pid == 0:
        line.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert take(directory, "mine") is None
    line.enter(0, "1:1")
    assert tokens(directory) == ["mine"]


def test_a_program_started_by_the_worker_does_not_keep_its_lock(directory, start):
    spawn = "\nimport subprocess\nsubprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'])"
    start(WORKER + spawn + STAY).kill()
    dead_process = take(directory, "worker")
    assert dead_process.executing == {"42:3", "43:2"}
    dead_process.reap()


def test_only_one_can_take_the_dead(directory, start):
    start(WORKER + STAY).kill()
    first = take(directory, "worker")
    assert take(directory, "worker") is None
    first.release()
    second = take(directory, "worker")
    assert second.executing == first.executing
    second.reap()


def test_what_was_buried_is_missing(directory, start):
    start(WORKER + STAY).kill()
    dead_process = take(directory, "worker")
    dead_process.reap()
    dead_process.reap()
    late = take(directory, "worker")
    assert (late.missing, late.executing) == (True, frozenset())
    late.reap()


def test_of_many_who_take_and_bury_exactly_one_finds_it(directory):
    for _ in range(50):
        ProcessLock(directory, "old", 1).abandon()
        found, together = [], threading.Barrier(4)

        def reaper(found=found, together=together):
            together.wait(DEADLINE)
            dead_process = take(directory, "old")
            if dead_process is not None and not dead_process.missing:
                found.append(dead_process)
                dead_process.reap()

        threads = [threading.Thread(target=reaper) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert len(found) == 1


def test_a_process_lock_closed_in_good_order_leaves_nothing(directory, line):
    line.enter(0, "1:1")
    line.close()
    line.close()
    assert take(directory, "mine").missing
    assert os.listdir(directory) == []


def test_a_process_lock_is_never_seen_unlocked_while_it_is_made_and_closed(directory):
    over, seen = threading.Event(), []

    def watch():
        while not over.is_set():
            dead_process = [take(directory, token) for token in tokens(directory)]
            seen.extend(one for one in dead_process if one is not None and not one.missing)

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    for number in range(300):
        ProcessLock(directory, f"t{number}", 1).close()
    over.set()
    for watcher in watchers:
        watcher.join(DEADLINE)
    assert seen == []
    assert os.listdir(directory) == []


def test_a_half_made_process_lock_is_swept_away_only_when_its_maker_is_dead(directory, start):
    maker = start(HALF_MADE)
    assert tokens(directory) == []
    assert os.listdir(directory) == ["half.tmp"]
    maker.kill()
    tokens(directory)
    assert os.listdir(directory) == []


def test_a_run_of_the_longest_numbers_is_noted_and_what_is_longer_than_a_record_refused(directory, line):
    longest = f"{-(2**63)}:{2**63 - 1}"
    line.enter(3, longest)
    with pytest.raises(IndexError):
        line.enter(3, "9" * 46 + ":1")
    assert noted(directory, "mine") == {longest}


@pytest.mark.parametrize("token", ["../beyond", "", "\0", "a" * 300, "folder", "loop", "pipe"])
def test_what_is_no_lock_file_is_nobodys_and_leads_nowhere(directory, token):
    directory.mkdir(exist_ok=True)
    beyond = directory.parent / "beyond.lock"
    beyond.touch()
    (directory / "folder.lock").mkdir()
    (directory / "loop.lock").symlink_to("loop.lock")
    if hasattr(os, "mkfifo"):
        os.mkfifo(directory / "pipe.lock")
    dead_process = take(directory, token)
    assert dead_process is None or dead_process.missing
    assert beyond.exists()


def test_a_record_cut_off_in_the_middle_is_no_run(directory):
    records = b"1234567890123456", b"               \n", b"", b"", b""
    (directory / "mine.lock").write_bytes(b"".join(record.ljust(RECORD, b"\0") for record in records) + bytes(TAIL))
    dead_process = take(directory, "mine")
    assert dead_process.executing == frozenset()
    dead_process.reap()


def test_there_are_no_tokens_where_no_directory_is(tmp_path):
    assert tokens(tmp_path / "none") == []
    assert take(tmp_path / "none", "x").missing


def test_slots_must_be_positive(directory):
    with pytest.raises(ValueError, match="slots must be positive, got 0"):
        ProcessLock(directory, "x", 0)


def test_a_process_lock_and_remains_tell_their_state(directory, line):
    line.enter(0, "1:1")
    assert repr(line) == "<ProcessLock mine held slots=4>"
    line.abandon(["1:1"])
    dead_process = take(directory, "mine")
    assert (repr(line), repr(dead_process)) == (
        "<ProcessLock mine closed slots=4>",
        "<DeadProcess mine found executing=['1:1']>",
    )
    dead_process.reap()


def test_an_identity_survives_as_text_also_from_a_later_version():
    me = Identity.current()
    assert Identity.from_text(me.to_text()) == me
    assert Identity.from_text(json.dumps({**json.loads(me.to_text()), "colour": "red"})) == me
    assert me.pid == os.getpid()


@linux
def test_a_process_is_alive_until_it_dies_and_a_zombie_is_dead(start):
    process = start(WORKER + STAY)
    worker = Identity.from_text(process.said)
    assert alive(worker) is True
    process.popen.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    assert (alive(worker), cpu_seconds(worker)) == (False, None)
    process.popen.wait(DEADLINE)
    assert (alive(worker), cpu_seconds(worker)) == (False, None)


@linux
def test_another_process_of_the_same_number_is_not_the_same():
    assert alive(replace(Identity.current(), started="1")) is False


@linux
def test_a_process_of_an_earlier_boot_of_this_machine_is_dead():
    me = Identity.current()
    assert alive(replace(me, boot="earlier")) is False
    assert me.same_boot(me)
    assert not me.same_boot(replace(me, boot="earlier"))


@linux
@pytest.mark.parametrize("elsewhere", [{"namespace": "pid:[1]"}, {"namespace": ""}, {"boot": ""}])
def test_of_a_process_that_cannot_be_seen_nothing_is_told(elsewhere):
    other = replace(Identity.current(), **elsewhere)
    assert (alive(other), cpu_seconds(other)) == (None, None)
    assert alive(replace(other, boot="other", host="other")) is None


@linux
def test_a_busy_process_uses_cpu_seconds():
    me = Identity.current()
    before = cpu_seconds(me)
    while cpu_seconds(me) < before + 0.02:
        sum(range(10_000))


def test_two_unknown_boots_are_not_the_same():
    me = replace(Identity.current(), boot="")
    assert not me.same_boot(me)


def noted_in(directory):
    return sorted(noted(directory, "mine"))


def test_a_run_that_has_ended_stays_noted_until_it_is_dropped_while_its_slot_is_anothers(line, directory):
    line.enter(0, "7:1")
    line.keep("7:1")
    line.enter(0, "8:1")
    assert noted_in(directory) == ["7:1", "8:1"]
    line.drop("7:1")
    line.drop("7:1")
    assert (noted_in(directory), line.kept) == (["8:1"], {})


def test_more_ended_runs_than_can_be_noted_are_noted_as_any(line, directory):
    runs = [f"{number}:1" for number in range(KEPT + 3)]
    for run in runs:
        line.keep(run)
    assert ANY in noted_in(directory)
    for run in runs[-4:]:
        line.drop(run)
    assert ANY not in noted_in(directory)
    assert len(noted_in(directory)) == KEPT - 1  # one of the four had a place
    for run in runs:
        line.drop(run)
    assert noted_in(directory) == []
