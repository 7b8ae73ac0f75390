"""Programs with tasks in child processes, as people write and start them: how the child finds the function."""

import os
import subprocess
import sys

import pytest

from child_processes import needs_proc
from litequeue.serialization.encryption import new_key

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="signals, /proc"), needs_proc]

DEADLINE = 60  # seconds


@pytest.fixture
def run(tmp_path):
    """Write files, start Python on one of them in their folder, and return what it printed."""

    def running(*arguments, code=0, stdin=None, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            input=stdin,
            env=os.environ | {"NO_COLOR": "1", "PYTHONUNBUFFERED": ""},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert ran.returncode == code, ran.stderr
        return ran.stdout + ran.stderr

    return running


HEAD = """
import os
from litequeue import Queue
queue = Queue("app.db", durability="normal")

@queue.task(process=True)
def where(text: str) -> list:
    return [text, os.getpid(), __name__]
"""
MAIN = """
def go():
    with queue.worker(children=1):
        text, pid, name = where.enqueue("hello").result(timeout=30)
        print(text, pid != os.getpid(), name)
"""
GUARD = 'if __name__ == "__main__":\n    go()\n'


def test_a_script_with_a_guard_runs_its_own_tasks(run):
    assert "hello True __mp_main__" in run("shop.py", shop=HEAD + MAIN + GUARD)


@pytest.mark.parametrize("name", ["app", "__main__"])
def test_a_module_that_is_run_by_name_runs_its_own_tasks(run, tmp_path, name):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / f"{name}.py").write_text(HEAD + MAIN + GUARD)
    assert "hello True" in run("-m", "pkg.app" if name == "app" else "pkg")


def test_a_script_without_a_guard_is_refused(run):
    told = run("shop.py", shop=HEAD + MAIN + "go()\n", code=1)
    assert 'has no `if __name__ == "__main__":` around what it does when it is started; put such a line there' in told


def test_code_of_a_session_is_refused(run):
    """As in a notebook: there is no file."""
    assert "its function was defined in a notebook, or in a session" in run("-", stdin=HEAD + MAIN + "go()\n", code=1)
    assert "its function was defined in a notebook, or in a session" in run("-c", HEAD + MAIN + "go()\n", code=1)


def test_a_worker_that_a_module_starts_when_it_is_imported_is_none_in_a_child(run):
    """Also all that such a module may ask of it."""
    module = (
        HEAD
        + """
worker = queue.worker(children=1)
worker.__enter__()
if "Absent" in repr(worker):
    print("imported", repr(worker), worker.name, worker.claimed, worker.stop(now=True), worker.left_running)
    queue.worker().run()
"""
    )
    program = """
import shop
print(shop.where.enqueue("hello").result(timeout=30)[0])
shop.worker.stop()
again = shop.queue.worker(children=1)
with again:
    print(shop.where.enqueue("again").result(timeout=30)[0])
"""
    told = run("main.py", main=program, shop=module)
    assert "again" in told
    assert "<Absent absent: in a child process no worker starts>" in told


def test_importing_in_a_child_opens_no_file(run):
    module = """
import os
from litequeue import Queue
queue = Queue("app.db", durability="normal")

@queue.task(process=True)
def opened() -> list:
    return [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if n != "3"]
"""
    program = """
import shop
with shop.queue.worker(children=1):
    print(any("app.db" in each for each in shop.opened.enqueue().result(timeout=30)))
"""
    assert run("main.py", main=program, shop=module).startswith("False")


def test_tasks_of_the_default_queue_are_found(run):
    module = "import os\nfrom litequeue import task\n\n@task(process=True)\ndef pid() -> int:\n    return os.getpid()\n"
    program = """
import os, shop
from litequeue import default_queue
default_queue.bind("app.db")
with default_queue.worker(children=1):
    print(shop.pid.enqueue().result(timeout=30) != os.getpid())
"""
    assert run("main.py", main=program, shop=module).startswith("True")


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ("queue.task(process=True, name='a')(lambda: None)", "its function is a lambda"),
        (
            "def f():\n    def inner(): ...\n    return inner\nqueue.task(process=True)(f())",
            "is defined inside another",
        ),
        ("def f(): ...\ng = queue.task(process=True)(f)\ndef f(): ...", "shop.f is something else than its function"),
        ("def f(): ...\nqueue.task(process=True)(f)\ndel f", "shop.f is something else than its function"),
        ("from functools import partial\nqueue.task(process=True, name='p')(partial(sorted, ()))", "has no name in a"),
        (
            "def f(): ...\nqueue.task(process=True, backoff=lambda n: n, retries=1)(f)",
            "its options or those of the queue cannot be pickled",
        ),
    ],
    ids=["a lambda", "a closure", "a shadowed name", "a name that is gone", "no name", "options"],
)
def test_what_a_child_could_not_find_is_refused_when_the_worker_starts(run, declared, why):
    module = f"from litequeue import Queue\nqueue = Queue('app.db')\n{declared}\n"
    told = run("-c", "import shop; shop.queue.worker(children=1).run(until_idle=True)", shop=module, code=1)
    assert "has process=True, and a child process cannot find it" in told
    assert why in told
    # who has no child processes leaves the task to others
    run("-c", "import shop; shop.queue.worker(children=0).run(until_idle=True)", shop=module)


def test_methods_of_classes_are_found(run):
    module = """
import os
from litequeue import Queue
queue = Queue("app.db", durability="normal")

class Shop:
    @staticmethod
    @queue.task(process=True)
    def pid() -> int:
        return os.getpid()
"""
    program = """
import os, shop
with shop.queue.worker(children=1):
    print(shop.Shop.pid.enqueue().result(timeout=30) != os.getpid())
"""
    assert run("main.py", main=program, shop=module).startswith("True")


def test_what_is_declared_elsewhere_than_the_function_is_made_anew_there(run):
    """With options that travel: how often it is tried again is decided in the child."""
    images = "def shrink(n: int) -> int:\n    raise ValueError(n)\n"
    program = """
import images
from litequeue import Queue
queue = Queue("app.db", durability="normal")
shrink = queue.task(process=True, name="smaller", retries=2, backoff=0, give_up_on=KeyError)(images.shrink)
if __name__ == "__main__":
    job = shrink.enqueue(1)
    with queue.worker(children=1):
        while job.refresh().status != "failed":
            pass
    print(len(job.errors), "tries")
"""
    assert "3 tries" in run("main.py", main=program, images=images)


def test_a_module_that_was_loaded_from_its_file_is_loaded_so_again(run, tmp_path):
    """As pytest does with --import-mode=importlib."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "odd-name.py").write_text(HEAD)
    program = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("tests.odd", "deep/odd-name.py")
odd = sys.modules["tests.odd"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(odd)
with odd.queue.worker(children=1):
    print(odd.where.enqueue("hello").result(timeout=30)[2])
"""
    assert "tests.odd" in run("main.py", main=program)


def test_what_is_encrypted_is_read_in_a_child(run):
    pytest.importorskip("cryptography")
    module = f"""
from litequeue import Queue
from litequeue.serialization.encryption import EncryptedCodec
queue = Queue("app.db", durability="normal", codec=EncryptedCodec({new_key()!r}))

@queue.task(process=True)
def double(text: str) -> str:
    return text * 2
"""
    program = (
        'import shop\nwith shop.queue.worker(children=1):\n    print(shop.double.enqueue("ab").result(timeout=30))'
    )
    assert "abab" in run("main.py", main=program, shop=module)


def test_completing_is_refused_where_the_module_gives_another_file(run, tmp_path):
    module = """
import os
from litequeue import Queue, current_job
queue = Queue(os.environ.get("AT", "app.db"), durability="normal")

@queue.task(process=True)
def pays() -> None:
    with current_job().completing():
        pass
"""
    program = """
import os, shop
os.environ["AT"] = "other.db"
job = shop.pays.enqueue()
shop.queue.worker(children=1).run(until_idle=True)
print(job.refresh().errors[0].message)
"""
    told = run("main.py", main=program, shop=module)
    assert "completing(): in this child process the task's queue is on" in told
    assert "a path must be the same wherever the module is imported" in told


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_program_that_was_started_without_streams_keeps_its_files(run, tmp_path, closed):
    """The first file that it opens then has the number to which others print."""
    module = """
import os, sys
from litequeue import Queue

@(queue := Queue("app.db", durability="normal")).task(process=True)
def prints(text: str) -> int:
    os.write(1, text.encode())
    os.write(2, text.encode())
    os._exit(3)
"""
    program = """
file = open("mine.txt", "w+b", buffering=0), open("also mine.txt", "w+b", buffering=0)
import shop
job = shop.prints.enqueue("spoiled " * 1000)
shop.queue.worker(children=1).run(until_idle=True)
assert job.refresh().status == "failed", job
assert "spoiled" in job.errors[0].traceback, job.errors
"""
    run("-c", "pass", main=program, shop=module)
    shell = (
        f'"{sys.executable}" main.py {closed} {"" if ">&-" in closed else ">out"} {"" if "2>&-" in closed else "2>err"}'
    )
    ran = subprocess.run(["sh", "-c", shell], cwd=tmp_path, timeout=DEADLINE, check=False)
    assert ran.returncode == 0
    assert [(tmp_path / name).read_bytes() for name in ("mine.txt", "also mine.txt")] == [b"", b""]
    if not closed:
        assert "spoiled" in (tmp_path / "out").read_text()
        assert "spoiled" in (tmp_path / "err").read_text()
