"""Where a queue's file is, and where its tasks are, may be said after the queue is declared."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from command_line import DEADLINE
from litequeue import Queue, StoreError, default_queue
from litequeue.core.module_patterns import matching
from litequeue.sqlite.store import SqliteStore


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A package with tasks in several modules; its queue imports them."""
    files = {
        "shop/__init__.py": "",
        "shop/queue.py": "from litequeue import Queue\nqueue = Queue('app.db', imports=['shop.*.tasks'])\n",
        "shop/__main__.py": "raise SystemExit('a program')\n",
        "shop/mail/__init__.py": "",
        "shop/mail/tasks.py": "from shop.queue import queue\n@queue.task\ndef send(): print('sent\\n', end='')\n",
        "shop/stock/__init__.py": "",
        "shop/stock/tasks.py": "from shop.queue import queue\n@queue.task\ndef count(): print('counted\\n', end='')\n",
        "shop/views/__init__.py": "",
        "shop/views/pages.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def litequeue(*arguments):
    command = [sys.executable, "-m", "litequeue", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE)


def test_a_queue_without_a_path_opens_nothing_until_it_is_bound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queue = Queue()

    @queue.task
    def add(a: int, b: int) -> int:
        return a + b

    assert os.listdir() == []
    assert "not bound" in repr(queue)
    queue.bind(tmp_path / "later.db")
    queue.bind("later.db")
    with queue, queue.worker(threads=1):
        assert add.enqueue(1, 2).result(timeout=DEADLINE) == 3
    assert queue.path == tmp_path / "later.db"
    assert not (tmp_path / "litequeue.db").exists()


def test_a_queue_that_is_not_bound_is_where_it_always_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LITEQUEUE_PATH", raising=False)
    with Queue() as queue:
        assert queue.path == tmp_path / "litequeue.db"
        with pytest.raises(ValueError, match=r"was used before bind\(\), so it is at .*litequeue.db; make it without"):
            queue.bind("other.db")
    assert not (tmp_path / "other.db").exists()


def test_a_queue_with_a_path_cannot_be_bound_to_another(tmp_path):
    with Queue(tmp_path / "app.db") as queue:
        queue.bind(tmp_path / "app.db")
        with pytest.raises(ValueError, match=r"is at .*app.db"):
            queue.bind(tmp_path / "other.db")


def test_a_bad_path_is_refused_where_it_is_bound(tmp_path):
    queue = Queue()
    with pytest.raises(StoreError):
        queue.bind(tmp_path / "missing" / "app.db")
    queue.bind(tmp_path / "app.db")
    queue.close()


def test_the_default_queue_is_not_opened_by_a_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    default_queue.lock("nightly")
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("pattern", "modules"),
    [
        ("shop.queue", ["shop.queue"]),
        ("shop.*", ["shop.mail", "shop.queue", "shop.stock", "shop.views"]),
        ("shop.*.tasks", ["shop.mail.tasks", "shop.stock.tasks"]),
        ("shop.**.ta*", ["shop.mail.tasks", "shop.stock.tasks"]),
        ("shop.m*.*", ["shop.mail.tasks"]),
    ],
)
def test_a_pattern_stands_for_modules(shop, pattern, modules):
    code = f"from litequeue.core.module_patterns import matching; print(*matching({pattern!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout.split() == modules


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(ImportError, match=r"no module matches 'email.nothing\*'"):
        matching("email.nothing*")


@pytest.mark.parametrize("imports", ["shop.tasks", ["*"], ["shop/tasks.py"], ["shop..tasks"], [""], [1]])
def test_what_names_no_module_is_refused_where_it_is_declared(tmp_path, imports):
    with pytest.raises((TypeError, ValueError), match="imports"):
        Queue(tmp_path / "app.db", imports=imports)


def test_a_worker_imports_the_modules_of_its_queue(shop):
    for task in ("send", "count"):
        assert litequeue("enqueue", "shop.queue:queue", task).returncode == 0
    done = litequeue("run", "shop.queue:queue", "--until-idle")
    assert (sorted(done.stdout.split()), done.returncode) == (["counted", "sent"], 0)
    assert litequeue("enqueue", "shop.queue:queue", "count").returncode == 0
    embedded = "from shop.queue import queue\nqueue.worker().run(until_idle=True)"
    command = [sys.executable, "-c", embedded]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE)
    assert done.stdout == "counted\n"


def test_a_module_that_cannot_be_imported_ends_the_run_or_is_named(shop):
    (shop / "shop/mail/tasks.py").write_text("import no_such_library\n")
    litequeue("enqueue", "-I", "shop.stock.tasks", "shop.queue:queue", "count")
    done = litequeue("run", "shop.queue:queue", "--until-idle")
    assert done.returncode == 1
    assert "shop/mail/tasks.py" in done.stderr
    done = litequeue("run", "shop.queue:queue", "--until-idle", "--import-errors", "warn")
    assert (done.stdout, done.returncode) == ("counted\n", 0)
    assert "shop.mail.tasks could not be imported" in done.stderr
    assert "its tasks are not run here" in done.stderr


def test_a_module_that_could_not_be_imported_is_tried_again(shop):
    (shop / "shop/mail/tasks.py").write_text("import no_such_library\n")
    program = (
        "from shop.queue import queue\n"
        "for _ in range(2):\n"
        "    try: queue.worker()\n"
        "    except ModuleNotFoundError as error: print(error.name)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE)
    assert done.stdout.split() == ["no_such_library", "no_such_library"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_a_fork_amid_the_first_use_opens_the_queue_by_itself(tmp_path, monkeypatch):
    opening, go = threading.Event(), threading.Event()
    made = SqliteStore.attach

    def slowly(self, home):
        opening.set()
        go.wait(DEADLINE)
        return made(self, home)

    queue = Queue()
    monkeypatch.setattr(SqliteStore, "attach", slowly)
    thread = threading.Thread(target=queue.bind, args=[tmp_path / "app.db"])
    thread.start()
    opening.wait(DEADLINE)
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # it waited for ever
        monkeypatch.setattr(SqliteStore, "attach", made)
        os._exit(0 if queue.jobs() == [] else 1)
    go.set()
    thread.join(DEADLINE)
    assert os.waitpid(child, 0)[1] == 0
    queue.close()
