"""A fork that Python is not told of, as uWSGI makes by default: the child is refused what was open, and no job lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from c_fork import WAYS, WAYS_TO_USE_IT_BEFORE
from litequeue import Queue

ROOT = Path(__file__).parents[1]
DEADLINE = 120  # seconds; only a defect waits so long

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks by ctypes, and looks into /proc")

PRELUDE = """
import asyncio, json, os, signal, sys, threading, time
from contextlib import suppress
from litequeue import Queue, StoreError, current_job
from tests.c_fork import declare, deleted_files_held, fork, in_child, let_threads_wait
let_threads_wait()
path, driver = sys.argv[1:]
told = []
def tell(**what):
    print(json.dumps(what, default=repr), flush=True)
"""


def environment():
    kept = {name: value for name, value in os.environ.items() if name != "LITEQUEUE_PATH"}
    return kept | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def run(database, driver):
    """Run a program in a process of its own; return what it told, all of its lines in one dict."""

    def go(program):
        ran = subprocess.run(
            [sys.executable, "-c", PRELUDE + dedent(program), str(database), driver],
            cwd=database.parent, env=environment(), capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return {name: value for line in ran.stdout.splitlines() for name, value in json.loads(line).items()}

    return go


@pytest.fixture
def found(database, driver):
    """Look which jobs another process finds in the file, and that the file is sound."""

    def look():
        with Queue(database, driver=driver) as queue:
            assert queue.engine.admin.integrity() == []
            ids = [job.id for job in queue.jobs(limit=10_000)]
            while more := queue.jobs(limit=10_000, before=ids[-1]) if ids else []:
                ids += [job.id for job in more]
            return set(ids)

    return look


def refused(said):
    """Tell whether the child was refused with what to set, and did not hang or die."""
    code, value = said
    words = ("StoreError: ", "lazy-apps", "py-call-uwsgi-fork-hooks")
    return code == 0 and isinstance(value, str) and value.startswith(words[0]) and all(word in value for word in words)


BEFORE_3_13 = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="CPython ends a child by SIGABRT for which only that hook ran"
)

# Each way to use it

# the other ways to have used it open less than these
USED = [
    pytest.param(used, marks=() if used in {"enqueued", "worker"} else pytest.mark.slow)
    for used in WAYS_TO_USE_IT_BEFORE
]


@pytest.fixture(scope="module", params=["apsw", "sqlite3"])
def each_way(request, tmp_path_factory):
    """What came of each way to use a queue in a child, by how the parent had used it; asked for once a driver."""
    came = {}

    def after(used):
        if used not in came:
            path = tmp_path_factory.mktemp("forks") / "app.db"
            ran = subprocess.run(
                [sys.executable, "-m", "tests.c_fork", str(path), request.param, used],
                cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=DEADLINE * 2, check=False,
            )  # fmt: skip
            assert ran.returncode == 0, ran.stderr
            came[used] = json.loads(ran.stdout.splitlines()[-1]) | {"path": path, "driver": request.param}
        return came[used]

    return after


@pytest.mark.parametrize("used", USED)
@pytest.mark.parametrize("way", WAYS)
def test_what_was_in_use_before_the_fork_is_refused_in_the_child_in_each_way(each_way, used, way):
    said = each_way(used)["came"][way]
    assert refused(said), said


@pytest.mark.parametrize("used", USED)
def test_the_parent_goes_on_unharmed_whatever_its_children_try(each_way, used):
    came = each_way(used)
    assert came["deleted"] == []
    with Queue(came["path"], driver=came["driver"]) as queue:
        assert queue.engine.admin.integrity() == []
        assert set(came["known"]) <= {job.id for job in queue.jobs(limit=1000)}


def test_each_way_is_tried(each_way):
    assert sorted(each_way("enqueued")["came"]) == sorted(WAYS)


# What was not in use


def test_what_was_only_declared_works_in_the_children(run, found):
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        children = [in_child(lambda: [add.enqueue(n).id for n in range(5)]) for _ in range(3)]
        tell(ids=[id for said in children for id in said.value], codes=[said.code for said in children])
    """)
    assert told["codes"] == [0, 0, 0]
    assert set(told["ids"]) == found()
    assert len(set(told["ids"])) == 15


def test_nothing_is_open_after_a_declaration(run, database):
    told = run("""
        before = set(os.listdir("/proc/self/fd"))
        queue = declare(path, driver)
        open_now = [os.readlink(f"/proc/self/fd/{n}") for n in set(os.listdir("/proc/self/fd")) - before
                    if os.path.islink(f"/proc/self/fd/{n}")]
        tell(open=open_now, threads=[thread.name for thread in threading.enumerate()])
    """)
    assert told == {"open": [], "threads": ["MainThread"]}
    assert database.exists()
    assert not Path(f"{database}-wal").exists()


def test_a_worker_runs_in_a_child_where_the_queue_was_only_declared(run):
    told = run("""
        queue = declare(path, driver)
        def work():
            with queue.worker(threads=1, coroutines=1):
                return queue.tasks["add"].enqueue(5).result(timeout=20)
        tell(said=in_child(work))
    """)
    assert told["said"] == [0, 5]


def test_the_end_of_the_child_is_a_stop_for_the_worker_that_it_started(run):
    """As where uWSGI stops: it ends Python in each of its processes."""
    told = run("""
        import atexit, litequeue.worker.worker  # as the server's master may have done
        queue, began = declare(path, driver), threading.Event()
        @queue.task(name="lasting")
        def lasting():
            began.set()
            while not current_job().cancelled:
                time.sleep(0.01)
        def work():
            job = lasting.enqueue()
            with queue.worker(threads=1, coroutines=1, signals=True):
                began.wait(20)
                atexit._run_exitfuncs()
            return [str(job.refresh().status), job.attempt]
        tell(said=in_child(work))
    """)
    assert told["said"] == [0, ["queued", 1]]


def test_a_signal_stops_the_worker_that_the_child_has_started(run):
    told = run("""
        import litequeue.worker.worker
        queue = declare(path, driver)
        def work():
            signal.signal(signal.SIGTERM, lambda *_: None)  # the program's own, called when the worker has ended
            with queue.worker(threads=1, coroutines=1, signals=True) as worker:
                os.kill(os.getpid(), signal.SIGTERM)
                [its_own] = [one for one in threading.enumerate() if one.name == f"litequeue-{worker.name}"]
                its_own.join(20)
                return not its_own.is_alive()
        tell(said=in_child(work))
    """)
    assert told["said"] == [0, True]


def test_a_worker_of_the_child_logs_although_one_of_the_parent_has(run):
    """Its records are written by a thread, which is not there any more."""
    told = run("""
        import logging
        from litequeue.core.logger import aside, log
        def work():
            kept = logging.Handler()
            kept.emit = lambda record: written.append(record.getMessage())
            logging.getLogger("litequeue").addHandler(kept)
            written = []
            with aside(20):
                log.error("heard")
            return written
        tell(parent=work(), said=in_child(work))
    """)
    assert told == {"parent": ["heard"], "said": [0, ["heard"]]}


def test_after_close_in_the_parent_the_child_opens_the_file_anew(run, found):
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        first = add.enqueue(1).id
        asyncio.run(add.aenqueue(1))
        queue.close()
        said = in_child(lambda: add.enqueue(2).id)
        tell(said=said, parent=[first, add.enqueue(3).id])
    """)
    assert told["said"][0] == 0
    assert {told["said"][1], *told["parent"]} <= found()
    assert len(found()) == 4


def test_another_file_works_in_the_child(run, database):
    told = run("""
        queue, other = declare(path, driver), declare(path + ".other", driver)
        queue.tasks["add"].enqueue(1)
        third = lambda: declare(path + ".third", driver)
        tell(other=in_child(lambda: other.tasks["add"].enqueue(1).id),
             third=in_child(lambda: third().tasks["add"].enqueue(1).id))
    """)
    assert told == {"other": [0, "1"], "third": [0, "1"]}


def test_one_of_two_queues_on_a_file_in_use_forbids_the_other_in_the_child(run):
    told = run("""
        used, declared = declare(path, driver), declare(path, driver)
        used.tasks["add"].enqueue(1)
        tell(said=in_child(lambda: declared.tasks["add"].enqueue(1).id))
    """)
    assert refused(told["said"])


def test_the_refusal_is_not_got_round_by_closing_or_by_trying_again(run):
    told = run("""
        queue = declare(path, driver)
        queue.tasks["add"].enqueue(1)
        def persist():
            for _ in range(3):
                with suppress(StoreError):
                    queue.close()
                with suppress(StoreError):
                    queue.jobs()
            return queue.tasks["add"].enqueue(1).id
        tell(said=in_child(persist))
    """)
    assert refused(told["said"])


def test_the_child_of_such_a_child_is_refused_too(run):
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        add.enqueue(1)
        def by_python():
            pid = os.fork()
            if pid:
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            signal.alarm(20)
            try:
                add.enqueue(1)
            except StoreError as error:
                os._exit(7 if "lazy-apps" in str(error) else 8)
            os._exit(9)
        tell(c=in_child(lambda: in_child(lambda: add.enqueue(1).id)), python=in_child(by_python))
    """)
    assert refused(told["c"][1])
    assert told["python"] == [0, 7]


def test_a_child_of_a_python_fork_that_forks_in_c_goes_by_what_it_used_itself(run, found):
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        add.enqueue(1)
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            tell(parent=add.enqueue(1).id)
            sys.exit()
        signal.alarm(60)
        tell(unused=in_child(lambda: add.enqueue(2).id), child=add.enqueue(3).id,
             used=in_child(lambda: add.enqueue(4).id))
        os._exit(0)
    """)
    assert told["unused"][0] == 0
    assert refused(told["used"])
    assert {told["parent"], told["child"], told["unused"][1]} <= found()


@BEFORE_3_13
def test_where_only_pythons_hook_for_the_child_is_called_it_is_refused(run, found):
    """uWSGI's py-call-osafterfork: the parent is not told beforehand, so nothing was closed."""
    told = run("""
        import ctypes
        queue = declare(path, driver)
        add = queue.tasks["add"]
        first = add.enqueue(1).id
        def work():
            ctypes.pythonapi.PyOS_AfterFork_Child()
            return add.enqueue(2).id
        tell(said=in_child(work), parent=[first, add.enqueue(3).id], deleted=deleted_files_held())
    """)
    assert refused(told["said"])
    assert told["deleted"] == []
    assert set(told["parent"]) <= found()


@BEFORE_3_13
def test_where_only_pythons_hook_for_the_child_is_called_what_was_only_declared_works(run, found):
    told = run("""
        import ctypes
        queue = declare(path, driver)
        def work():
            ctypes.pythonapi.PyOS_AfterFork_Child()
            return queue.tasks["add"].enqueue(2).id
        tell(said=in_child(work))
    """)
    assert told["said"] == [0, "1"]
    assert found() == {"1"}


def test_pythons_own_forks_go_on_after_one_in_c(run, found):
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        add.enqueue(1)
        said = in_child(lambda: add.enqueue(1).id)
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            add.enqueue(2)
            os._exit(0)
        tell(code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said=said, parent=add.enqueue(3).id)
    """)
    assert told["code"] == 0
    assert refused(told["said"])
    assert found() == {"1", "2", "3"}


@pytest.mark.slow
def test_a_fork_while_other_threads_hold_every_lock_is_refused_without_waiting(run, found):
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        stop, ids = threading.Event(), []
        def write():
            while not stop.is_set():
                ids.append(add.enqueue(1).id)
        def read():
            while not stop.is_set():
                queue.jobs(limit=5)
        threads = [threading.Thread(target=work, daemon=True) for work in (write, write, read)]
        for thread in threads:
            thread.start()
        while not ids:
            time.sleep(0.001)
        with queue.transaction():
            inside = [in_child(lambda: add.enqueue(2).id), in_child(queue.jobs)]
        said = [in_child(use) for use in (lambda: add.enqueue(2).id, queue.jobs, queue.close) for _ in range(5)]
        stop.set()
        for thread in threads:
            thread.join(30)
        tell(said=said + inside, ids=ids)
    """)
    assert [said for said in told["said"] if not refused(said)] == []
    assert set(told["ids"]) <= found()


@pytest.mark.slow
def test_nothing_of_a_notifier_is_touched_in_the_child_while_a_worker_rests_elsewhere(run):
    """Handing a job to that worker, the parent's socket would be used, and a lock that another thread may have had."""
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        pid = os.fork()
        if pid == 0:
            signal.alarm(100)
            with suppress(BaseException):
                queue.worker(threads=1, coroutines=1).run()
            os._exit(0)
        add.enqueue(1).result(timeout=30)  # its worker rests now, and our notifier is open
        stop = threading.Event()
        def write():
            while not stop.is_set():
                add.enqueue(1)
        threads = [threading.Thread(target=write, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        said = [in_child(lambda: add.enqueue(2).id) for _ in range(12)]
        stop.set()
        for thread in threads:
            thread.join(30)
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        tell(said=said)
    """)
    assert [said for said in told["said"] if not refused(said)] == []


# A child's end


ENDS = {
    "sys.exit": "sys.exit(0)",
    "the end of the program": "children = None",
    "garbage": "del queue, add; import gc; gc.collect(); sys.exit(0)",
    "refused, then sys.exit": """
        try:
            add.enqueue(9)
        except StoreError:
            pass
        with suppress(StoreError):
            queue.close()
        sys.exit(0)
    """,
}


@pytest.mark.parametrize(
    ("end", "used"),
    [
        ("refused, then sys.exit", "add.enqueue(1)"),
        pytest.param("sys.exit", "queue.worker(threads=1).__enter__()", marks=pytest.mark.slow),
        pytest.param("the end of the program", "queue.jobs()", marks=pytest.mark.slow),
        pytest.param("garbage", "add.enqueue(1)", marks=pytest.mark.slow),
    ],
)
def test_a_childs_normal_end_closes_nothing_of_its_parents(run, found, end, used):
    told = run(f"""
    queue = declare(path, driver)
    add = queue.tasks["add"]
    {used}
    first = add.enqueue(1).id
    def ended(pid):
        over = time.monotonic() + 30
        while time.monotonic() < over:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return False
    for _ in range(2):
        pid = fork()
        if pid == 0:
            break
        assert ended(pid), "the child hangs at its end"
    if pid == 0:
        exec({dedent(ENDS[end])!r})
    else:
        # a process that opens and closes the file, as any command does
        import subprocess
        look = "import sys, litequeue; litequeue.Queue(sys.argv[1]).jobs()"
        subprocess.run([sys.executable, "-c", look, path], check=True)
        tell(ids=[first, add.enqueue(2).id, add.enqueue(3).id], deleted=deleted_files_held(),
             wal=os.path.exists(path + "-wal"))
        sys.stdout.flush()
        os._exit(0)  # without a checkpoint: what is in the WAL must be found there
    """)
    assert told["deleted"] == []
    assert told["wal"]
    assert set(told["ids"]) <= found()


ENQUEUES = """
import sys, os, litequeue
queue = litequeue.Queue(sys.argv[1], driver=sys.argv[2])
print(queue.task(name="add")(lambda: 0).enqueue().id, flush=True)
if sys.argv[3] == "dies":
    os._exit(0)
"""


@pytest.mark.parametrize(
    "use", ["pass", *(pytest.param(use, marks=pytest.mark.slow) for use in ("queue.jobs()", "queue.close()"))]
)
def test_a_child_that_outlives_its_parent_takes_nothing_at_its_end_from_those_that_came_after(database, driver, use):
    """SQLite's close would move the old WAL into the file, and remove the new one by its name."""
    program = f"""
    queue = declare(path, driver)
    queue.tasks["add"].enqueue(1)
    queue.jobs()
    if fork():
        os._exit(0)
    signal.alarm(60)
    with suppress(StoreError):
        {use}
    print("ready", flush=True)
    sys.stdin.readline()
    """

    def enqueue(end):
        command = [sys.executable, "-c", ENQUEUES, database, driver, end]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout.strip()

    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + dedent(program), database, driver],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout.readline() == "ready\n"
        parent.wait(DEADLINE)
        ids = {enqueue("closes"), enqueue("dies")}
        parent.stdin.close()
        assert parent.stdout.read() == ""  # the child has ended
    ids.add(enqueue("closes"))
    with Queue(database, driver=driver) as queue:
        assert queue.engine.admin.integrity() == []
        assert {job.id for job in queue.jobs()} == {"1"} | ids
    assert len(ids) == 3


# Workers


def test_the_parents_embedded_worker_goes_on(run, found):
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        with queue.worker(threads=2, coroutines=1):
            before = add.enqueue(1).result(timeout=20)
            said = [in_child(lambda: add.enqueue(2).id) for _ in range(5)]
            after = [add.enqueue(n).result(timeout=20) for n in range(5)]
        tell(said=said, results=[before, after], found=[job.status for job in queue.jobs()])
    """)
    assert all(map(refused, told["said"]))
    assert told["results"] == [1, [0, 1, 2, 3, 4]]
    assert told["found"] == ["succeeded"] * 6


@pytest.mark.parametrize("leave", ["worker.__exit__(None, None, None)", "worker.stop()", "worker.stop(now=True)"])
def test_leaving_the_parents_worker_in_the_child_ends_and_stops_nothing_there(run, leave):
    told = run(f"""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        with queue.worker(threads=1, coroutines=1) as worker:
            add.enqueue(1).result(timeout=20)
            said = in_child(lambda: {leave})
            tell(said=said, result=add.enqueue(7).result(timeout=20))
    """)
    code, value = told["said"]
    assert code == 0, "it hung, or died"
    assert value is None or refused(told["said"])
    assert told["result"] == 7


def test_a_child_that_leaves_the_block_of_its_parents_worker_ends(run):
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        try:
            with queue.worker(threads=1, coroutines=1):
                pid = fork()
                if pid == 0:
                    signal.alarm(30)
                    sys.exit(5)
                tell(code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), result=add.enqueue(7).result(timeout=20))
        except StoreError:
            assert pid == 0
            sys.exit(5)
    """)
    assert told == {"code": 5, "result": 7}


def test_a_job_that_forks_in_c_completes_nothing_in_the_child(run):
    told = run("""
        queue = declare(path, driver)
        with queue.transaction() as db:
            db.execute("CREATE TABLE effects (n INTEGER)")
        def complete():
            with current_job().completing() as db:
                db.execute("INSERT INTO effects VALUES (1)")
        @queue.task
        def forks():
            tell(progress=in_child(lambda: current_job().progress(0.5)), completing=in_child(complete))
        with queue.worker(threads=1, coroutines=1):
            forks.enqueue().result(timeout=60)
        with queue.transaction() as db:
            tell(effects=len(list(db.execute("SELECT * FROM effects"))))
    """)
    assert refused(told["progress"])
    assert refused(told["completing"])
    assert told["effects"] == 0


def test_a_fork_in_c_inside_a_transaction_commits_nothing_in_the_child(run, found):
    told = run("""
        queue = declare(path, driver)
        add = queue.tasks["add"]
        said = None
        try:
            with queue.transaction():
                first = add.enqueue(1).id
                heard, tells = os.pipe()
                pid = fork()
                if pid == 0:
                    signal.alarm(30)
                else:
                    os.close(tells)
                    said = os.read(heard, 4096).decode()
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except StoreError as error:
            os.write(tells, f"StoreError: {error}".encode())
            os._exit(0)
        if pid == 0:
            os.write(tells, b"committed")
            os._exit(0)
        tell(said=[code, said], ids=[first, add.enqueue(2).id])
    """)
    assert refused(told["said"])
    assert set(told["ids"]) == found()


def test_a_death_is_seen_though_a_child_of_a_fork_in_c_has_the_lock(run, database, driver):
    """The child shares the lock of its parent, and no hook has closed it there."""
    import signal

    told = run("""
        queue = declare(path, driver)
        @queue.task(name="first_dies")
        def first_dies():
            if current_job().attempt == 1:
                child = fork()
                if child == 0:
                    os.closerange(0, 3)
                    signal.alarm(60)
                    while True:
                        signal.pause()
                with open(path + ".child", "w") as file:
                    file.write(str(child))
                os.kill(os.getpid(), signal.SIGKILL)
            return current_job().attempt
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                queue.worker(threads=1, coroutines=1).run()
            os._exit(1)
        job = first_dies.enqueue()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with queue.worker(threads=1, coroutines=1):
            tell(code=code, attempt=job.result(timeout=60))
    """)
    child = int(Path(f"{database}.child").read_text())
    os.kill(child, signal.SIGKILL)  # it was still there: else its parent's lock would have been free
    assert told == {"code": -9, "attempt": 2}
