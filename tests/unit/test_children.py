"""Parts of child processes by themselves: commands, messages, deaths in words, refusals, decisions for Windows."""

import contextlib
import logging
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections import deque
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from crash.watching import until
from litequeue import Queue
from litequeue.children import channel, child_process, command, log_records, main_module, messages, output, writable
from litequeue.children.child_process import Death
from litequeue.cli import main
from litequeue.cli.banner import _children
from litequeue.core import in_child
from litequeue.core.absent_runner import Absent
from litequeue.core.clock import SystemClock
from litequeue.core.engine import Runner
from litequeue.errors import Fenced, KeyConflict, StoreError
from litequeue.worker.executor.child_pool import ChildPool, Children
from litequeue.worker.executor.mailbox import Mailbox
from litequeue.worker_options import run_options

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors")

# ---- how a child is started


def test_a_child_is_started_with_the_flags_and_the_path_of_this_process(monkeypatch):
    monkeypatch.setattr(sys, "path", ["", "/a b", "c'd", 7])
    monkeypatch.setattr(sys, "_xoptions", {"own": True, "other": "2"})
    started = command.child_command(5)
    assert started[0] == sys.executable
    assert started[-2] == "-c"
    assert started[-1].startswith("import sys; sys.path[:] = ['', '/a b', \"c'd\"]; from litequeue.worker.child.main")
    assert started[-1].endswith("main(5)")
    assert {"-Xown", "-Xother=2"} <= {*started}


@posix
def test_flags_of_the_interpreter_reach_a_child():
    code = "from litequeue.children.command import child_command; print(child_command(3)[1:-2])"
    ran = subprocess.run([sys.executable, "-O", "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert "-O" in ran.stdout
    assert "-Wignore" in ran.stdout


def test_a_frozen_program_starts_itself(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not command.has_interpreter()
    assert command.child_command(9) == [sys.executable, "--litequeue-child", "9"]


def test_where_python_is_embedded_there_is_nothing_to_start(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    assert not command.has_interpreter()


# ---- the program's own file


@pytest.mark.parametrize(
    ("text", "guarded"),
    [
        ('if __name__ == "__main__":\n    go()', True),
        ('if "__main__" == __name__:\n    go()', True),
        ("if __name__ != '__mp_main__': go()", True),
        ('if True and __name__ == "__main__":\n    go()', True),
        ("def f():\n    if __name__ == 1: ...", False),
        ("go()", False),
        ("if name: ...", False),
        ("this is no Python", False),
        ("", False),
    ],
)
def test_a_guard_is_seen(tmp_path, text, guarded):
    (tmp_path / "app.py").write_text(text)
    assert main_module.is_guarded(str(tmp_path / "app.py")) is guarded


def test_a_file_that_is_not_there_has_no_guard(tmp_path):
    assert not main_module.is_guarded(str(tmp_path / "none.py"))


def test_a_file_of_any_encoding_is_read(tmp_path):
    (tmp_path / "app.py").write_bytes(b'# -*- coding: latin-1 -*-\ns = "\xe9"\nif __name__ == "__main__": ...\n')
    assert main_module.is_guarded(str(tmp_path / "app.py"))


@pytest.mark.parametrize("file", ["<stdin>", "<string>", None])
def test_what_is_no_file_is_none(monkeypatch, file):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", file, raising=False)
    assert main_module.main_file() is None


# ---- deaths in words


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (Death(3, 50_000_000, False, ""), "ended with exit code 3; it held up to 50 MB of memory"),
        (Death(0, None, False, ""), "ended with exit code 0"),
        (Death(-11, 50_000_000, True, ""), "was killed by SIGSEGV; it held less than 50 MB of memory"),
        (Death(-9, None, False, ""), "was killed by SIGKILL (the system does that when memory runs out)"),
        (Death(-63, None, False, ""), "was killed by signal 63"),
        (Death(None, None, False, "x"), "ended, and the system does not tell how"),
    ],
)
@posix
def test_a_death_is_told_in_words(death, words):
    assert str(death) == words


# ---- the channel


@pytest.fixture
def ends():
    here, there = (channel.Channel(end) for end in Pipe())
    yield here, there
    here.close()
    there.close()


def test_whole_messages_go_both_ways_from_any_thread(ends):
    here, there = ends
    sent = ["x" * 100_000 + str(number) for number in range(8)]
    threads = [threading.Thread(target=here.send, args=(each,)) for each in sent]
    for thread in threads:
        thread.start()
    assert sorted(there.receive() for _ in sent) == sorted(sent)
    for thread in threads:
        thread.join()
    there.send("back")
    assert here.waits(5)
    assert here.receive() == "back"


@posix
def test_an_offer_never_waits(ends):
    here, there = ends
    assert here.offer("small")
    assert not here.offer("x" * 100_000)
    with pytest.raises(AssertionError, match="full"):
        for _ in range(100_000):
            assert here.offer("more"), "full"
    assert there.receive() == "small"
    held = threading.Lock()
    here._sending = held
    held.acquire()
    assert not here.offer("while another thread sends")
    held.release()


@posix
def test_a_descriptor_that_became_another_file_is_not_written_to(ends, tmp_path):
    here, _ = ends
    mine = here.connection.fileno()
    kept = os.dup(mine)
    with open(tmp_path / "file", "w+b") as file:
        os.dup2(file.fileno(), mine)
        for send in (here.send, here.offer):
            with pytest.raises(OSError, match="closed by code that does not own it"):
                send("message")
        assert file.read() == b""
    os.dup2(kept, mine)
    os.close(kept)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork")
def test_a_copy_of_the_process_sends_nothing(ends):
    here, there = ends
    pid = os.fork()
    if pid == 0:
        refused = 0
        for send in (here.send, here.offer):
            with contextlib.suppress(OSError):
                send("from the copy")
                refused -= 1
            refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    here.send("from the process")
    assert there.receive() == "from the process"


def test_the_end_of_the_other_side_is_an_error(ends):
    here, there = ends
    there.close()
    with pytest.raises((EOFError, OSError)):
        here.receive()


@posix
def test_whether_a_descriptor_can_be_written_to():
    read, write = os.pipe()
    assert writable.is_writable(write)
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 65536)
    assert not writable.is_writable(write)
    os.close(read)
    assert writable.is_writable(write)  # broken, which the write tells
    os.close(write)


def test_errors_travel_or_their_words_do():
    class Own(Exception):
        pass

    assert messages.travelling(None) is None
    fenced = messages.travelling(Fenced("late"))
    assert (type(fenced), str(fenced)) == (Fenced, "late")
    own = messages.travelling(Own("not found elsewhere"))
    assert (type(own), str(own)) == (StoreError, "Own: not found elsewhere")
    conflict = messages.travelling(KeyConflict("taken", "7"))
    assert type(conflict) in (KeyConflict, StoreError)
    assert "taken" in str(conflict)


# ---- log records


def fields_of(**extra):
    record = logging.getLogger("shop").makeRecord(
        "shop", logging.WARNING, __file__, 1, "sold %d of %s", (2, "it"), None, extra=extra
    )
    fields = log_records.fields_of(record)
    return pickle.loads(pickle.dumps(fields))


def test_a_record_travels_as_text_and_plain_values():
    class Own:
        def __str__(self):
            return "own"

    class Loud(str):
        __slots__ = ()

    class Broken:
        def __str__(self):
            raise ValueError

    number = uuid.uuid4()
    deep = [[[[[[1]]]]]]
    given = {"number": 7, "tags": ["a", {"b": None}], "own": Own(), "loud": Loud("x"), "broken": Broken(), "deep": deep}
    fields = fields_of(**given, id_=number)
    assert fields["msg"] == "sold 2 of it"
    assert fields["args"] is None
    told = [fields[name] for name in ("number", "tags", "own", "loud", "broken", "deep", "id_")]
    assert told == [7, ["a", {"b": None}], "own", "x", "<Broken>", str(deep), str(number)]
    assert type(fields["loud"]) is str


def test_a_record_whose_arguments_do_not_fit_is_told_all_the_same():
    record = logging.getLogger("shop").makeRecord("shop", 30, __file__, 1, "sold %d", ("two",), None)
    assert log_records.fields_of(record)["msg"] == "sold %d ('two',)"


def test_an_error_travels_as_its_traceback():
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        record = logging.getLogger("shop").makeRecord("shop", 40, __file__, 1, "no", (), sys.exc_info())
    fields = log_records.fields_of(record)
    assert fields["exc_info"] is None
    assert "ZeroDivisionError: division by zero" in fields["exc_text"]


def test_a_record_is_handled_as_the_levels_here_say(caplog):
    caplog.set_level("ERROR", "shop")
    log_records.handle(fields_of(own=1))
    assert caplog.records == []
    caplog.set_level("WARNING", "shop")
    log_records.handle(fields_of(own=1))
    assert [(each.getMessage(), each.own) for each in caplog.records] == [("sold 2 of it", 1)]


# ---- output


@posix
def test_of_what_is_printed_the_last_lines_since_the_run_began_are_kept(capfd):
    out, err = os.pipe(), os.pipe()
    there = output.Output(*(os.fdopen(each[0], "rb", buffering=0) for each in (out, err)))
    there.follow()
    os.write(out[1], b"before\n")
    until(lambda: "before" in capfd.readouterr().out)
    there.begin()
    for number in range(2000):
        os.write(out[1], b"line %d\n" % number)
    until(lambda: "line 1999" in capfd.readouterr().out)
    os.write(err[1], b"at last\xff\n")
    for end in (out[1], err[1]):
        os.close(end)
    last = there.last()
    assert "before" not in last
    assert len(last.encode()) <= output.KEPT + 2
    assert last.startswith("line ")
    assert "line 1999" in last
    assert "at last\ufffd" in last
    assert not there._pipes


@posix
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_where_both_streams_print_much_half_is_each_ones(order):
    tail = output._Tail()
    for descriptor in order:
        for number in range(3000):
            tail.add(descriptor, b"%d of %d\n" % (number, descriptor))
    lines = tail.text().splitlines()
    assert len(tail.text()) <= output.KEPT
    for descriptor in order:
        assert f"2999 of {descriptor}" in lines
        assert sum(line.endswith(f"of {descriptor}") for line in lines) > 150
    tail.add(1, b"x" * 60_000 + b"\n")
    assert f"2999 of {2}" in tail.text()
    assert "x" * 2000 in tail.text()


def test_nothing_is_passed_on_where_the_program_has_no_streams(monkeypatch, capfd):
    monkeypatch.setattr(sys, "__stdout__", None)
    out, err = os.pipe(), os.pipe()
    there = output.Output(*(os.fdopen(each[0], "rb", buffering=0) for each in (out, err)))
    there.follow()
    os.write(out[1], b"to nobody\n")
    os.write(err[1], b"to stderr\n")
    for end in (out[1], err[1]):
        os.close(end)
    assert "to nobody" in there.last()
    assert capfd.readouterr() == ("", "to stderr\n")


@posix
def test_a_stream_that_does_not_wait_gets_all_of_it():
    read, write = os.pipe()
    os.set_blocking(write, False)
    data = b"x" * 1_000_000
    writing = threading.Thread(target=output._write, args=(write, data))
    writing.start()
    got = 0
    while got < len(data):
        got += len(os.read(read, 65536))
    writing.join(30)
    assert got == len(data)
    os.close(read)
    os.close(write)


# ---- what is there in a child


def test_a_worker_in_a_child_runs_nothing_and_answers_all(database, monkeypatch):
    monkeypatch.setattr(in_child, "_marked", True)
    queue = Queue(database)
    assert not database.exists()
    worker = queue.worker(threads=2, name="mine")
    assert isinstance(worker, Absent)
    with worker as entered:
        assert entered is worker
        worker.stop(now=True)
    assert worker.run(until_idle=True)
    told = {name: getattr(worker, name) for name in ("claimed", "settled", "released", "lost", "id", "left_running")}
    assert {*told.values()} == {0}
    assert worker.name == "mine"
    assert {name for name in vars(Runner) if not name.startswith("_")} <= {*dir(worker)}


# ---- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"children": -1}, "children must be .* got -1"),
        ({"children": 1.5}, "children must be"),
        ({"children": True}, "children must be"),
        ({"max_jobs_per_child": 0}, "max_jobs_per_child must be"),
        ({"max_jobs_per_child": "3"}, "max_jobs_per_child must be"),
        ({"max_memory_per_child": 0}, "max_memory_per_child"),
        ({"max_memory_per_child": "a lot"}, "max_memory_per_child"),
        ({"max_memory_per_child": "1MB"}, "max_memory_per_child must be at least"),
    ],
)
def test_options_that_could_not_be_meant_are_refused(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        run_options(options)


def test_there_are_as_many_children_as_cores_unless_it_is_said(monkeypatch):
    monkeypatch.setattr("litequeue.worker_options.usable_cores", lambda: 7)
    assert run_options({}).children == 7
    assert run_options({"children": 0}).children == 0
    assert run_options({"children": 3}).children == 3


@pytest.mark.parametrize(
    "arguments", [["--children", "-1"], ["--max-jobs-per-child", "0"], ["--max-memory-per-child", "much"]]
)
def test_the_command_refuses_them_too(arguments):
    ran = CliRunner().invoke(main, ["run", "app:queue", *arguments])
    assert ran.exit_code == 2
    assert arguments[0] in ran.output


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"tasks": [{"process": False}], "children": 2}, ""),
        ({"children": 1}, ", 1 child process"),
        ({"children": 4}, ", 4 child processes"),
        ({"children": 0}, ", no child processes (tasks with process=True are left to other workers)"),
        ({"children": 2, "max_jobs_per_child": 1}, ", 2 child processes (after 1 job)"),
        (
            {"children": 2, "max_jobs_per_child": 1000, "max_memory_per_child": 500_000_000},
            ", 2 child processes (after 1,000 jobs, above 500 MB)",
        ),
    ],
)
def test_the_banner_tells_of_children_where_a_task_wants_one(found, words):
    usual = {"tasks": [{"process": True}], "max_jobs_per_child": None, "max_memory_per_child": None}
    assert _children(usual | found) == words


# ---- Windows, by its decisions


def test_on_windows_a_handle_is_handed_over_and_the_process_killed(monkeypatch):
    given = {}

    class Popen:
        pid, _handle, returncode, killed = 42, 99, None, False

        def __init__(self, arguments, **options):
            given.update(options, arguments=arguments)

        def kill(self):
            self.killed = True

    class End:
        def fileno(self):
            return 77

    monkeypatch.setattr(child_process, "IS_WINDOWS", True)
    monkeypatch.setattr(child_process.subprocess, "Popen", Popen)
    monkeypatch.setattr(child_process.subprocess, "STARTUPINFO", dict, raising=False)
    monkeypatch.setattr(child_process.subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(child_process.os, "set_handle_inheritable", lambda *a: given.update(inherits=a), raising=False)
    process = child_process._spawned(End())
    assert given["inherits"] == (77, True)
    assert given["startupinfo"] == {"lpAttributeList": {"handle_list": [77]}}
    assert given["creationflags"] == 512
    assert "pass_fds" not in given
    assert given["arguments"][-1].endswith("main(77)")
    assert child_process._sentinel(process) == 99
    child = object.__new__(child_process.ChildProcess)
    child._process, child._ending, child._reaped, child._end = process, threading.Lock(), False, None
    child.kill()
    assert process.killed


def test_where_the_system_tells_of_no_end_it_is_looked_for(monkeypatch):
    monkeypatch.setattr(child_process, "_sentinel", lambda _: None)
    monkeypatch.setattr(child_process, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(
        child_process, "child_command", lambda _: [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(5)"]
    )
    child = child_process.ChildProcess()
    child.output.follow()
    assert child.next(60) is None
    assert child.ends_within(60)
    assert child.take_end().code == 5
    assert child.take_end().code == 5
    child.kill()  # does nothing any more


def test_a_run_that_is_undone_is_forgotten_before_another_child_can_begin_its_job():
    """Else the second run would be the one that is forgotten: no limit and no cancel would reach it."""
    job = SimpleNamespace(id="1", attempt=1)
    setup = SimpleNamespace(clock=SystemClock(), process_lock=SimpleNamespace(leave=lambda _slot: None))
    mailbox = Mailbox(lambda: None, settle=None)
    pool = ChildPool(Children(2, None, None, "q.db"), setup, mailbox, first_slot=0)
    first, second = SimpleNamespace(job=job), SimpleNamespace(job=job)
    mailbox.running["1", 1] = first

    def begin():
        assert pool.take() is job
        mailbox.running["1", 1] = second

    other = threading.Thread(target=begin)

    class Backlog(deque):
        def appendleft(self, one):
            super().appendleft(one)
            other.start()
            other.join(0.2)  # it has to wait until the first one is forgotten

    pool.backlog = Backlog()
    pool.undo_begin(first, 0)
    other.join(30)
    assert mailbox.running == {("1", 1): second}
